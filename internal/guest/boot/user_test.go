package boot_test

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/agentd-go/agentd/internal/guest/plan"
	"github.com/agentd-go/agentd/internal/nstest"
)

// Mounts of the user's stack, on missing directories and on each other, have
// the flags of the plan, and are all gone after the way down.
func TestUserMounts(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		before := len(mounts(t))
		const strict = plan.ReadOnly | plan.NoExec | plan.NoSUID | plan.NoDev
		m := mustUp(t, only(
			plan.TmpfsMount{Mount: plan.Mount{Source: "below", Target: "/a", Type: "tmpfs", Data: "size=1048576,mode=700"}},
			plan.DirMount{Mount: plan.Mount{Source: "above", Target: "/a", Type: "tmpfs", Flags: strict}},
			plan.TmpfsMount{Mount: plan.Mount{Source: "deep", Target: "/b/c/d", Type: "tmpfs", Data: "mode=711"}},
		))
		all := mounts(t)
		if got := all["/a"]; got[0] != "above" || !strings.HasPrefix(got[2], "ro,nosuid,nodev,noexec,relatime") {
			t.Errorf("/a is %v", got)
		}
		if got := all["/b/c/d"]; got[0] != "deep" || !strings.Contains(got[2], "mode=711") || !strings.HasPrefix(got[2], "rw,relatime") {
			t.Errorf("/b/c/d is %v", got)
		}
		if n := strings.Count(read(t, "/proc/self/mounts"), " /a "); n != 2 {
			t.Errorf("%d mounts on /a, want 2", n)
		}
		m.Down(10 * time.Second)
		if n := len(mounts(t)); n != before {
			t.Errorf("%d mounts after, want %d", n, before)
		}
		if err := syscall.Mount("", "/", "", syscall.MS_REMOUNT, ""); err != nil { // For the test's own end.
			t.Fatal(err)
		}
	})
}

// A mount that fails names everything, and leaves nothing behind.
func TestUserMountError(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		mkdir(t, plan.ShareDir)
		before := read(t, "/proc/self/mounts")
		for _, tt := range []struct {
			step plan.Step
			want []string
		}{
			{
				plan.DirMount{Mount: plan.Mount{Source: "tag", Target: "/a", Type: "no-such", Flags: plan.ReadOnly | plan.NoDev}},
				[]string{"step dir-mount: mount tag (type no-such, ro,nodev) on /a: ", "no such device", "the kernel needs no-such"},
			},
			{
				plan.TmpfsMount{Mount: plan.Mount{Source: "tmpfs", Target: "/a", Type: "tmpfs", Data: "size=x"}},
				[]string{"step tmpfs-mount: mount tmpfs (type tmpfs) on /a: option size=x: "},
			},
			{
				plan.FileMount{Tag: "fm_00000001", Filename: "f", Path: "/a"},
				[]string{"step file-mount: mount fm_00000001 (type virtiofs) on /.msb/file-mounts/fm_00000001: "},
			},
		} {
			_, err := up(t, only(tt.step))
			for _, want := range tt.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%v: got %v, want %q in it", tt.step, err, want)
				}
			}
		}
		if _, err := os.Lstat(plan.FileMountsDir); err == nil {
			t.Error("the staging is still there")
		}
		if after := read(t, "/proc/self/mounts"); after != before {
			t.Errorf("mounts\n%s\nwant\n%s", after, before)
		}
	})
}

// A disk that does not come is waited for, a while, and the error lists those
// that are there.
func TestNoDisk(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		start := time.Now()
		_, err := up(t, only(plan.DiskMount{ID: "data", Path: "/data"}))
		if err == nil || !strings.Contains(err.Error(), `step disk-mount: mount of a disk on /data: after 5s: no such disk: serial "data"`) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(start); took < time.Second {
			t.Errorf("given up after %v", took)
		}
	})
}
