package boots

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/agentd-go/agentd/internal/hooks"
	"github.com/agentd-go/agentd/internal/vmtest"
	"github.com/agentd-go/agentd/sandbox"
	"github.com/agentd-go/agentd/wire"
)

// A point is a system call that fails, and how the reason begins then.
type point struct{ call, want string }

// points are one of each kind of step that needs devices; that every call of the
// others does is TestEveryCallFails's in internal/guest/boot.
var points = []point{
	{"fsmount:1", "early init failed: "},
	{"sethostname:1", "init failed: step hostname: set host name \"box\": "},
	{"pivot_root:1", "init failed: step block-root: make /newroot the root: "},
	{"open_tree:1", "init failed: step block-root: mount /dev (type bind) on /newroot/dev: "},
	{"open_tree:4", "init failed: step block-root: mount /.msb (type bind) on /newroot/.msb: "},
	{"open_tree:5", "init failed: step file-mount: mount /.msb/file-mounts/fm_00000001/f (type bind, ro) on /etc/f: "},
	{"mount_setattr:1", "init failed: step block-root: mount /proc (type bind, noexec,nosuid,nodev) on /newroot/proc: "},
	{"mount_setattr:3", "init failed: step file-mount: "},
	{"symlinkat:1", "init failed: step mounts: symlink /proc/self/fd /dev/fd: "},
	{"bind:1", "init failed: step interface: open netlink: "},
	{"renameat:1", "init failed: step hosts: rename /etc/hosts: "},
	{"renameat:2", "init failed: step resolver: rename /etc/resolv.conf: "},
}

// faulty is a machine with a step of every kind.
func faulty(t *testing.T, kernel, call string) sandbox.Config {
	t.Helper()
	root := vmtest.Root(t)
	for _, name := range []string{"hosts", "resolv.conf"} { // What stands there is replaced, by a rename.
		put(t, filepath.Join(root, "etc", name), "the image's\n")
	}
	b := hostileMessage(&wire.DiskImage{Device: "/dev/vda"})
	b.FileMounts = []wire.FileMount{{Tag: "fm_00000001", Filename: "f", GuestPath: "/etc/f", Flags: wire.MountFlags{ReadOnly: true}}}
	b.TmpfsMounts = []wire.TmpfsMount{{Path: "/data"}}
	return hooks.With(sandbox.Config{
		Kernel: kernel, Agent: vmtest.FaultyAgent(t), Shares: []sandbox.Share{{Tag: "fm_00000001", Dir: holding(t, "f", "f\n")}},
		Disks: []sandbox.Disk{{Path: vmtest.Disk(t, "ext4", root)}},
	}, hooks.Machine{ExtraWords: []string{"AGENTD_FAULT=" + call}, Card: true, Bootstrap: b})
}

// A system call of the agent fails, and the machine ends with the step named, on
// the console and over the port, and with its disk clean.
func TestFaults(t *testing.T) {
	kernels := vmtest.Kernels(t)
	for i, p := range points {
		t.Run(p.call, func(t *testing.T) {
			t.Parallel()
			kernel := kernels[i%len(kernels)] // It makes no difference; all on both with AGENTD_LONG=1.
			p.check(t, kernel)
		})
	}
	if os.Getenv("AGENTD_LONG") != "1" {
		return
	}
	for i, p := range points {
		t.Run("the other kernel, "+p.call, func(t *testing.T) {
			t.Parallel()
			p.check(t, kernels[(i+1)%len(kernels)])
		})
	}
}

func (p point) check(t *testing.T, kernel string) {
	t.Helper()
	if p.call == "pivot_root:1" && roomy(kernel) {
		p.want = "early init failed: make /newroot the root: " // The first root here is an initramfs.
	}
	cfg := faulty(t, kernel, p.call)
	failed := refused(t, cfg)
	const cause = "input/output error"
	if !strings.HasPrefix(failed.Reason, p.want) || !strings.Contains(failed.Reason, cause) || !strings.Contains(failed.Console, "agentd: "+p.want) {
		t.Errorf("%s: %v", kernel, failed)
	}
	if told := !strings.HasPrefix(p.want, "early init"); told != (failed.Failure == "unknown") {
		t.Errorf("the port said %q", failed.Failure)
	}
	clean(t, cfg.Disks[0].Path)
}

// stride is how many calls the short form passes over; it shares no factor with
// the numbers of calls that steps make.
const stride = 41

// Each call of a boot on a machine fails in its turn, each stride-th without
// AGENTD_LONG=1: the machine ends with the reason on the console and over the port,
// or is as good as without.
func TestEveryNthCall(t *testing.T) {
	kernels := vmtest.Kernels(t)
	kernel, step := kernels[len(kernels)-1], stride
	if os.Getenv("AGENTD_LONG") == "1" {
		step = 1
	}
	n, ended := 1, 0
	for ; ; n += step {
		cfg := faulty(t, kernel, "any:"+strconv.Itoa(n))
		m, err := sandbox.Start(t.Context(), vmtest.Config(t, cfg))
		if err != nil {
			ended++
			checkReason(t, n, err)
			continue
		}
		over := !strings.Contains(string(m.Console()), "fault: call "+strconv.Itoa(n)+",")
		if err := m.Kill(); err != nil && !over {
			t.Log(err)
		}
		if over {
			break
		}
	}
	t.Logf("%d calls and more, each of %d: %d machines ended, the others booted", n-step, step, ended)
	if ended == 0 {
		t.Error("no call ended a machine")
	}
}

// checkReason looks at the end of a boot of which the n-th call failed.
func checkReason(t *testing.T, n int, err error) {
	t.Helper()
	failed, ok := errors.AsType[*sandbox.BootError](err)
	if !ok {
		t.Errorf("call %d: %v", n, err)
		return
	}
	phase, _, _ := strings.Cut(failed.Reason, ": ")
	inStep := phase != "init failed" || strings.HasPrefix(failed.Reason, "init failed: step ")
	ended := strings.HasSuffix(phase, " failed") || phase == "agent loop error" // After core.ready.
	if !ended || !inStep || !strings.Contains(failed.Reason, "input/output error") {
		t.Errorf("call %d: reason %q\n%v", n, failed.Reason, failed)
	}
	t.Logf("call %d: %s", n, failed.Reason)
}
