package agent_test

import (
	"os"
	"syscall"
	"testing"

	"github.com/agentd-go/agentd/internal/guest/sys"
	"github.com/agentd-go/agentd/internal/nstest"
	"github.com/agentd-go/agentd/wire"
)

// A tree is removed whatever its depth is, with few descriptors, and nothing that a
// link of it leads to.
func TestRemoveTrees(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		const nofile, few, depth = 7, 128, 3000
		if err := sys.SetLimit(nofile, few, few); err != nil {
			t.Fatal(err)
		}
		h := newHost(t, config{})
		chain(t, "/deep", depth)
		h.say("mkdir -p /t/a/b /t/c /keep; touch /t/f /t/a/g /t/a/b/h /keep/f; ln -s /keep /t/a/link; ln -s /keep /t/c/link; mkfifo /t/c/p")
		h.say("mkdir -p /busy/a/b; touch /busy/a/f")
		if err := syscall.Mount("tmpfs", "/busy/a/b", "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct{ path, want string }{
			{"/deep", "ok"},
			{"/t/.", "remove_dir: Invalid argument (os error 22)"},
			{"/t/", "ok"},
			{"/busy", "remove_dir: Resource busy (os error 16)"},
		} {
			if got := h.file(&wire.OpRemoveDir{Path: c.path, Recursive: true}); got != c.want {
				t.Errorf("%s: got %q, want %q", c.path, got, c.want)
			}
		}
		for _, gone := range []string{"/deep", "/t"} {
			if _, err := os.Lstat(gone); err == nil {
				t.Errorf("%s is still there", gone)
			}
		}
		for _, kept := range []string{"/keep/f", "/busy/a/b"} {
			if _, err := os.Lstat(kept); err != nil {
				t.Error(err)
			}
		}
	})
}

// chain makes a directory with one in it, and so on.
func chain(t *testing.T, path string, depth int) {
	t.Helper()
	const perm, open = 0o755, syscall.O_RDONLY | syscall.O_DIRECTORY | syscall.O_CLOEXEC
	if err := os.Mkdir(path, perm); err != nil {
		t.Fatal(err)
	}
	at, err := syscall.Open(path, open, 0)
	for range depth {
		if err == nil {
			err = syscall.Mkdirat(at, "d", perm)
		}
		var next int
		if err == nil {
			next, err = syscall.Openat(at, "d", open, 0)
		}
		if err != nil {
			t.Fatal(err)
		}
		_ = syscall.Close(at)
		at = next
	}
	_ = syscall.Close(at)
}
