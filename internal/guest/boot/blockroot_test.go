package boot_test

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/agentd-go/agentd/internal/guest/boot"
	"github.com/agentd-go/agentd/internal/guest/plan"
	"github.com/agentd-go/agentd/internal/nstest"
)

// ociRoot is a root whose layers are in memory: a namespace has no disks. The
// share is what the test has put at its place.
func ociRoot(t *testing.T) *plan.OCI {
	t.Helper()
	p, err := plan.FromEnvironment([]string{"MSB_BLOCK_ROOT=kind=oci-erofs,lower=/dev/a,upper=/dev/b,upper_fstype=tmpfs"})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range p.Steps {
		if root, ok := s.(plan.BlockRoot); ok {
			root.OCI.Lower.Type, root.OCI.Lower.Source = "tmpfs", "lower"
			root.OCI.Upper.Source = "upper"
			return root.OCI
		}
	}
	t.Fatal("no root in the plan")
	return nil
}

//holds:boot 11: the kernel learns the upper's path, also late; without the device the machine boots
func TestBlockRoot(t *testing.T) {
	nstest.Run(t, func() {
		nstest.RequireUsers(t) // A user namespace mounts no devtmpfs.
		nstest.Root(t)
		mkdir(t, plan.ShareDir)
		if err := syscall.Mount("share", plan.ShareDir, "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		write(t, plan.ShareDir+"/scripts/run", "script")
		p := planOf(t)
		essential, ok := p.Steps[0].(plan.Mounts)
		if !ok {
			t.Fatalf("the first step is %v", p.Steps[0])
		}
		oci := ociRoot(t)
		oci.Metrics = true // There is no knob here: nothing may wait for it.
		start := time.Now()
		m := mustUp(t, only(essential, plan.BlockRoot{OCI: oci}, essential, plan.HostsFile{Content: "new\n"}))
		if took := time.Since(start); took > time.Second { // For so long the knob is looked for.
			t.Errorf("the boot took %v", took)
		}
		checkNewRoot(t)
		checkMounts(t)
		m.Down(10 * time.Second)
		if left := read(t, "/etc/hosts"); left != "new\n" {
			t.Errorf("/etc/hosts after: %q", left)
		}
		if err := os.WriteFile("/new", nil, 0o644); !errors.Is(err, syscall.EROFS) {
			t.Errorf("the root can be written to: %v", err)
		}
		if entries, err := os.ReadDir(plan.ShareDir); err != nil || len(entries) != 0 {
			t.Errorf("the share is still mounted: %v, %v", entries, err)
		}
	})
}

// checkNewRoot looks at an overlay with the share, and nothing of the old root.
func checkNewRoot(t *testing.T) {
	t.Helper()
	all := mounts(t)
	const layers = "lowerdir=/.msb/rootfs/lower,upperdir=/.msb/rootfs/upperfs/upper,workdir=/.msb/rootfs/upperfs/work"
	if root := all["/"]; root[1] != "overlay" || !strings.Contains(root[2], layers) {
		t.Errorf("the root is %v", root)
	}
	if got := read(t, plan.ShareDir+"/scripts/run"); got != "script" {
		t.Errorf("the script is %q", got)
	}
	if entries, err := os.ReadDir(plan.ShareDir + "/rootfs/upperfs"); err != nil || len(entries) != 0 {
		t.Errorf("the upper is in reach: %v, %v", entries, err)
	}
	for _, old := range []string{"/bin/busybox", plan.NewRoot} {
		if _, err := os.Lstat(old); err == nil {
			t.Errorf("%s of the old root is in reach", old)
		}
	}
	for target := range all {
		if strings.Contains(target, "rootfs") || strings.Contains(target, "newroot") {
			t.Errorf("%s is still mounted", target)
		}
	}
}

// What was mounted for a root that cannot be put together is unmounted again,
// and the machine still has its old one.
func TestBlockRootUndone(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		write(t, plan.ShareDir+"/file", "no directory")
		before := read(t, "/proc/self/mounts")
		for what, spoil := range map[string]func(*plan.OCI){
			"nonsense":  func(o *plan.OCI) { o.Overlay.Data += ",nonsense" },
			"size=x":    func(o *plan.OCI) { o.Upper.Data = "size=x" },
			"directory": func(o *plan.OCI) { o.Dirs = append(o.Dirs, "/.msb/file/work") },
		} {
			oci := ociRoot(t)
			spoil(oci)
			_, err := up(t, only(plan.BlockRoot{OCI: oci}))
			if step, ok := errors.AsType[*boot.StepError](err); !ok || !strings.Contains(err.Error(), what) {
				t.Errorf("%s: got %v (%v)", what, err, step)
			}
			if after := read(t, "/proc/self/mounts"); after != before {
				t.Errorf("%s: mounts\n%s\nwant\n%s", what, after, before)
			}
		}
	})
}

// A link of the share or of the root does not turn a layer aside.
func TestBlockRootLinks(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		for _, name := range []string{plan.ShareDir, plan.ShareDir + "/rootfs", plan.ShareDir + "/rootfs/lower", plan.NewRoot} {
			freshRoot(t)
			mkdir(t, outside)
			if err := os.RemoveAll(plan.NewRoot); err != nil {
				t.Fatal(err)
			}
			linked(outside, name)(t)
			_, err := up(t, only(plan.BlockRoot{OCI: ociRoot(t)}))
			if err == nil || !strings.Contains(err.Error(), "a symbolic link stands in the way") {
				t.Errorf("%s: got %v", name, err)
			}
			if entries, err := os.ReadDir(outside); err != nil || len(entries) != 0 {
				t.Errorf("%s: outside is %v, %v", name, entries, err)
			}
		}
	})
}

// A root on something else than a disk.
func TestBlockRootDevice(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		const want = "step block-root: mount of /dev/null on /newroot: open /dev/null: block device required"
		_, err := up(t, only(plan.BlockRoot{DiskImage: &plan.Mount{Source: "/dev/null", Target: plan.NewRoot}}))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	})
}

// The kernel's knob gets the path of the upper.
//
//holds:boot 11: the kernel learns the upper's path, also late; without the device the machine boots
func TestMetrics(t *testing.T) {
	nstest.Run(t, func() { metrics(t, "/.msb/rootfs/upperfs", func(*os.Root, string, string) error { return nil }) })
}

// A knob that comes while the boot goes on gets a descriptor of it.
//
//holds:boot 11: the kernel learns the upper's path, also late; without the device the machine boots
func TestLateMetrics(t *testing.T) {
	nstest.Run(t, func() { metrics(t, "/proc/self/fd/", (*os.Root).Rename) })
}

// The way down ends the search for a knob, so that nothing of the upper stays open.
func TestLateWorkEnds(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		mkdir(t, plan.ShareDir)
		mkdir(t, "/sys/kernel")
		oci := ociRoot(t)
		oci.Metrics = true
		fds, err := os.OpenRoot("/proc/self/fd") // The old root has no path later.
		if err != nil {
			t.Fatal(err)
		}
		before := descriptors(t, fds)
		m := mustUp(t, only(plan.BlockRoot{OCI: oci}))
		m.Down(time.Minute)
		// The machine keeps its root.
		if n := descriptors(t, fds); n > before+1 {
			t.Errorf("%d descriptors before the boot and %d after the way down", before, n)
		}
	})
}

func descriptors(t *testing.T, fds *os.Root) int {
	t.Helper()
	all, err := fs.ReadDir(fds.FS(), ".")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// metrics boots with a knob that move takes away meanwhile, and wants it to be told.
func metrics(t *testing.T, want string, move func(sysfs *os.Root, from, to string) error) {
	t.Helper()
	nstest.Root(t)
	mkdir(t, plan.ShareDir)
	write(t, "/sys/kernel/msb_metrics/upper_path", "")
	sysfs, err := os.OpenRoot("/sys") // The old root has no path later.
	if err != nil {
		t.Fatal(err)
	}
	const knob, away = "kernel/msb_metrics/upper_path", "kernel/away"
	if err := move(sysfs, knob, away); err != nil {
		t.Fatal(err)
	}
	oci := ociRoot(t)
	oci.Metrics = true
	mustUp(t, only(plan.BlockRoot{OCI: oci}))
	if err := move(sysfs, away, knob); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the knob is told "+want, func() bool {
		b, err := sysfs.ReadFile(knob)
		return err == nil && strings.HasPrefix(string(b), want)
	})
}

// eventually waits for what goes on beside the boot.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(5 * time.Second); !holds(); {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("not within 5s: %s", what)
		}
	}
}
