package guest

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/agentd-go/agentd/shim/internal/pact"
)

// startHolder starts the process that holds the pod's namespaces in place of a pause
// container, and returns its number. It is the first process of the pid namespace, so
// its end would be that of all containers that share it.
func startHolder(held *pact.Held) (pid int, err error) {
	if held == nil {
		return 0, nil
	}
	if err := writeFiles(held.Files); err != nil {
		return 0, err
	}
	words, err := json.Marshal(held)
	if err != nil {
		return 0, err
	}
	cmd := exec.Command("/proc/self/exe", pact.Hold, string(words)) //nolint:noctx // It lives as long as the machine.
	cmd.Args[0] = pact.Program
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS}
	cmd.Stderr = os.Stderr
	ready, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("start the holder of the namespaces: %w", err)
	}
	if _, err := ready.Read(make([]byte, 1)); err != nil { // Its end is an end of the pipe.
		return 0, errors.Join(fmt.Errorf("the holder of the namespaces: %w", err), cmd.Wait())
	}
	return cmd.Process.Pid, nil
}

func writeFiles(files map[string]string) error {
	if err := os.MkdirAll(pact.Etc, 0o755); err != nil { //nolint:gosec // As any /etc.
		return err
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(pact.Etc, filepath.Base(name)), []byte(text), 0o644); err != nil { //nolint:gosec // As in any /etc.
			return err
		}
	}
	return nil
}

// HoldNamespaces is the process itself: it sets the namespaces up that it was started
// in, says so with a byte on its output, and reaps what is left to it. It returns only an error.
func HoldNamespaces(words string) error {
	// The first process of a pid namespace gets only signals that it takes.
	children := make(chan os.Signal, 1)
	signal.Notify(children, unix.SIGCHLD)
	var held pact.Held
	if err := json.Unmarshal([]byte(words), &held); err != nil {
		return err
	}
	if held.Hostname != "" {
		if err := unix.Sethostname([]byte(held.Hostname)); err != nil {
			return fmt.Errorf("set the hostname %q: %w", held.Hostname, err)
		}
	}
	for name, value := range held.Sysctls {
		if !ofHolder(name) {
			continue
		}
		if err := writeSysctl(name, value); err != nil {
			return err
		}
	}
	if _, err := os.Stdout.Write([]byte{1}); err != nil {
		return err
	}
	for range children {
		reapAll()
	}
	return errors.New("the channel of signals was closed")
}

// ofHolder reports whether a sysctl is of the ipc or uts namespace (ipc_namespaces(7)).
func ofHolder(name string) bool {
	file := sysctlFile(name)
	for _, prefix := range []string{"kernel/shm", "kernel/msg", "kernel/sem", "fs/mqueue/"} {
		if strings.HasPrefix(file, prefix) {
			return true
		}
	}
	return file == "kernel/domainname"
}

// reapAll waits for every child that has ended: one signal may stand for many.
func reapAll() {
	for {
		if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); err != nil || pid <= 0 {
			return
		}
	}
}
