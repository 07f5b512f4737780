package vmm

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// ownSession makes a process the leader of a session, which outlives ours.
func ownSession() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

// outlet makes a FIFO for the output of a process that may outlive this one. The process
// opens it for reading too, so that its writes never fail for lack of a reader, and without
// blocking: what does not fit into the pipe (64 KiB) is lost while nobody reads.
func outlet(path string) (writer *os.File, err error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		return nil, &os.PathError{Op: "mkfifo", Path: path, Err: err}
	}
	return openPipe(path, syscall.O_RDWR)
}

// openPipe opens a FIFO such that no call of a child that inherits it blocks.
func openPipe(path string, mode int) (*os.File, error) {
	fd, err := syscall.Open(path, mode|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// drain reads a FIFO until the process that writes to it has ended.
func (p *process) drain(path string) error {
	f, err := openPipe(path, syscall.O_RDONLY)
	if err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(p.output, f) // Ends with the last writer.
		_ = f.Close()               // Read only.
		close(p.read)
	}()
	return nil
}

// adoptProcess watches a process that is no child of ours. out is the FIFO of its output, ""
// for none. If judged is not nil, the caller sets verdict and then closes it. The error is
// [os.ErrProcessDone] if the process has ended.
func adoptProcess(name string, id ProcessID, out string, judged chan struct{}) (*process, error) {
	fd, err := unix.PidfdOpen(id.PID, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("pidfd_open", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if !id.runs() { // The descriptor is of the process that has the number now.
		_ = f.Close() // It held no data.
		return nil, errOther
	}
	p := newProcess(name)
	p.pid, p.handle, p.judged = id.PID, f, judged
	if out == "" {
		close(p.read)
	} else if err := p.drain(out); err != nil {
		_ = f.Close() // It held no data.
		return nil, err
	}
	go p.follow()
	return p, nil
}

// follow waits for the end of a process that is no child of ours.
func (p *process) follow() {
	link, err := p.handle.SyscallConn()
	if err == nil {
		err = link.Read(func(fd uintptr) bool {
			ask := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			n, err := unix.Poll(ask, 0)
			return err == nil && n > 0
		})
	}
	if err != nil {
		return // It was released.
	}
	p.finish()
}

// signalHandle signals a process that is no child of ours.
func (p *process) signalHandle(s syscall.Signal) {
	link, err := p.handle.SyscallConn()
	if err == nil {
		_ = link.Control(func(fd uintptr) { _ = unix.PidfdSendSignal(int(fd), s, nil, 0) }) // It may have ended.
	}
}
