package exec

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/agentd-go/agentd/internal/guest/sys"
)

// As many commands as maxWide have a large pipe for their input at once.
func TestWiden(t *testing.T) {
	h := &Runner{}
	room := func() (size int, narrow func()) {
		ours, theirs, err := sys.InputPipe()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = ours.Close()
			_ = theirs.Close()
		})
		narrow = h.widen(ours)
		if size, err = unix.FcntlInt(theirs.Fd(), unix.F_GETPIPE_SZ, 0); err != nil {
			t.Fatal(err)
		}
		return size, narrow
	}
	var last func()
	for i := range maxWide {
		var size int
		if size, last = room(); size != widePipe {
			t.Fatalf("pipe %d has room for %d bytes, want %d", i, size, widePipe)
		}
	}
	size, narrow := room()
	if size == widePipe {
		t.Errorf("more than %d pipes are wide", maxWide)
	}
	narrow()
	last()
	if size, _ := room(); size != widePipe {
		t.Errorf("with a place free again the pipe has room for %d bytes", size)
	}
}
