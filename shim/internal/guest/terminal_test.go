package guest

import (
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A terminal whose output has been carried to its end can still be told a size, and a
// size must not make its file block: Close ends a read then no more.
func TestResize(t *testing.T) {
	console, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no terminals here: %v", err)
	}
	p := newProcess(true, true, false, true)
	if err := p.resize(80, 24); err != nil { // Before there is one.
		t.Error(err)
	}
	if err := p.setConsole(console); err != nil {
		t.Fatal(err)
	}
	size, err := unix.IoctlGetWinsize(int(rawFD(t, console)), unix.TIOCGWINSZ)
	if err != nil || size.Col != 80 || size.Row != 24 {
		t.Errorf("%+v, %v", size, err)
	}
	read := make(chan struct{})
	go func() {
		_, _ = console.Read(make([]byte, 1)) // Whatever it says, it must end.
		close(read)
	}()
	if err := p.resize(100, 30); err != nil {
		t.Error(err)
	}
	if err := console.Close(); err != nil {
		t.Error(err)
	}
	select {
	case <-read:
	case <-time.After(10 * time.Second):
		t.Error("a read goes on after Close")
	}
	if err := p.resize(80, 24); err != nil {
		t.Errorf("after the end: %v", err)
	}
}

func rawFD(t *testing.T, f *os.File) (fd uintptr) {
	t.Helper()
	raw, err := f.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(n uintptr) { fd = n }); err != nil {
		t.Fatal(err)
	}
	return fd
}
