package stream

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// readerTime is for a client to open a fifo that holds output. A client opens it beside its
// call for the process, and on a busy host after a short process has ended.
const readerTime = 10 * time.Second

// awaitReader waits until a client has opened a fifo that holds output, because what a fifo
// holds is lost when nobody has it open. It closes f, which is open for reading too and
// so would be the reader that it waits for. A fifo without content, and what is no fifo,
// is not waited for.
func awaitReader(to io.Writer, stop <-chan struct{}) {
	f, ok := to.(*os.File)
	if !ok || unread(f) == 0 {
		return
	}
	w, err := reopen(f, unix.O_WRONLY|unix.O_NONBLOCK)
	if err != nil {
		return // It has been closed.
	}
	defer func() { _ = w.Close() }()
	_ = f.Close()
	came := make(chan struct{})
	go func() {
		defer close(came)
		if f, err := reopen(w, unix.O_WRONLY); err == nil { // It waits for a reader (fifo(7)).
			_ = f.Close()
		}
	}()
	select {
	case <-came:
		return
	case <-stop:
	case <-time.After(readerTime):
	}
	if f, err := reopen(w, unix.O_RDONLY|unix.O_NONBLOCK); err == nil { // Ends the wait.
		_ = f.Close()
	}
	<-came
}

// unread is how many bytes a fifo holds; 0 for anything else.
func unread(f *os.File) (n int) {
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeNamedPipe == 0 {
		return 0
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return 0
	}
	if raw.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ) }) != nil || err != nil {
		return 0
	}
	return n
}

// reopen opens a file once more, whatever its name leads to by now.
func reopen(f *os.File, flags int) (again *os.File, err error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	failed := raw.Control(func(fd uintptr) { again, err = os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", fd), flags, 0) })
	if failed != nil {
		return nil, failed
	}
	return again, err
}
