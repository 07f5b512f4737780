// Init is the first process of a machine whose agent has a failing system call, or
// whose devices come late. AGENTD_LATE=virtio_blk,virtio_net lists kernel drivers: Init
// unbinds their devices before the agent starts and binds them again later.
//
// The agent's binary is appended to this one, followed by eight bytes with its length.
// The variable AGENTD_FAULT names the failing call (fault.ParsePoint). A second process
// of this program stays and answers the filter.
package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"unsafe"

	"github.com/agentd-go/agentd/internal/fault"
)

const (
	variable = "AGENTD_FAULT"
	late     = "AGENTD_LATE"
	watcher  = "watch" // The second process's only argument.
	binder   = "bind"  // The only argument of the process for late devices.
	channel  = 3       // The descriptor on which the second process receives the listener.
)

func main() {
	err := run()
	fmt.Fprintln(os.Stderr, "fault:", err)
	if os.Getpid() == 1 {
		select {} // Wait until the host's deadline ends the machine.
	}
	os.Exit(1)
}

func run() error {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case watcher:
			return watch()
		case binder:
			return bind()
		}
	}
	agent, err := load(os.Args[0])
	if err != nil {
		return err
	}
	if drivers := os.Getenv(late); drivers != "" {
		if err := delay(strings.Split(drivers, ",")); err != nil {
			return err
		}
	}
	if os.Getenv(variable) == "" {
		return become(agent)
	}
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	_, err = syscall.ForkExec(os.Args[0], []string{os.Args[0], watcher}, &syscall.ProcAttr{
		Env: os.Environ(), Files: []uintptr{0, 1, 2, uintptr(pair[1])},
	})
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	listener, err := fault.Listen()
	if err != nil {
		return fmt.Errorf("filter system calls: %w", err)
	}
	if err := syscall.Sendmsg(pair[0], []byte{0}, syscall.UnixRights(listener), nil, 0); err != nil {
		return err
	}
	syscall.CloseOnExec(listener)
	return become(agent)
}

// load copies the agent into memory, because this process's root will vanish.
func load(self string) (fd int, err error) {
	b, err := os.ReadFile(self)
	if err != nil {
		return -1, err
	}
	const trailer = 8
	end := len(b) - trailer
	size := int(binary.BigEndian.Uint64(b[end:]))
	name := []byte("agentd\x00")
	const closeOnExec, memfdCreate = 1, 319
	r, _, errno := syscall.Syscall(memfdCreate, uintptr(unsafe.Pointer(&name[0])), closeOnExec, 0)
	if errno != 0 {
		return -1, os.NewSyscallError("memfd_create", errno)
	}
	fd = int(r)
	_, err = syscall.Write(fd, b[end-size:end])
	return fd, err
}

// become replaces this process by the agent (execveat(2)).
func become(agent int) error {
	const execveat, emptyPath = 322, 0x1000
	env := slices.DeleteFunc(os.Environ(), func(e string) bool {
		return strings.HasPrefix(e, variable+"=") || strings.HasPrefix(e, late+"=")
	})
	argv, err := syscall.SlicePtrFromStrings(os.Args)
	if err != nil {
		return err
	}
	envp, err := syscall.SlicePtrFromStrings(env)
	if err != nil {
		return err
	}
	empty := []byte{0}
	_, _, errno := syscall.RawSyscall6(
		execveat, uintptr(agent), uintptr(unsafe.Pointer(&empty[0])), uintptr(unsafe.Pointer(&argv[0])),
		uintptr(unsafe.Pointer(&envp[0])), emptyPath, 0,
	)
	return os.NewSyscallError("execveat", errno)
}

// watch answers the first process's filter until that process has ended.
func watch() error {
	at, err := fault.ParsePoint(os.Getenv(variable))
	if err != nil {
		return err
	}
	space := make([]byte, syscall.CmsgSpace(4))
	_, n, _, _, err := syscall.Recvmsg(channel, make([]byte, 1), space, 0)
	if err != nil {
		return err
	}
	messages, err := syscall.ParseSocketControlMessage(space[:n])
	if err != nil || len(messages) != 1 {
		return fmt.Errorf("%d messages: %w", len(messages), io.ErrUnexpectedEOF)
	}
	fds, err := syscall.ParseUnixRights(&messages[0])
	if err != nil {
		return err
	}
	w := &fault.Watcher{Listener: fds[0], At: at, Errno: syscall.EIO, Failed: func(f fault.Fault) {
		fmt.Fprintf(os.Stderr, "fault: call %d, %s, fails\n", f.Calls, f.Call)
	}}
	return w.Watch(nil)
}
