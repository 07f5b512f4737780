package suite

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/agentd-go/agentd/internal/hooks"
	"github.com/agentd-go/agentd/internal/image"
	"github.com/agentd-go/agentd/internal/vmtest"
	"github.com/agentd-go/agentd/sandbox"
	"github.com/agentd-go/agentd/wire"
)

// A systemdImage is an image of which systemd would ask, or wait for, what no machine
// has. change makes it of a root with systemd and without udev.
type systemdImage struct {
	name   string
	root   string // Of scripts/setup: debian, or another of its inits.
	init   string
	change func(root string) error
	quick  func(vmtest.Combination) bool // Whether CI boots it in this combination.
}

var systemdImages = []systemdImage{
	{name: "machine-id missing", change: identity(""), quick: func(c vmtest.Combination) bool {
		return !isKrunfw(c.Kernel) && c.Configuration == sandbox.ByEnvironment
	}},
	{name: "machine-id uninitialized, etc a link", change: inTurn(identity("uninitialized\n"), linkEtc), quick: func(c vmtest.Combination) bool {
		return isKrunfw(c.Kernel) && c.Configuration == sandbox.ByBootstrap
	}},
	{name: "machine-id empty", change: identity("\x00")},
	{name: "machine-id missing, etc a link", change: inTurn(identity(""), linkEtc)},
	{name: "after a script", init: "/entry.sh", change: inTurn(identity("uninitialized\n"), entry)},
	{name: "with udev", root: "udev", change: identity("")},
}

// systemd comes up in a machine, in each form of image and under each kind of host, and
// none of its units failed or waits. No host of ours says a word for that.
//
//holds:boot 22: systemd is up without a key from the console or a device of it, whatever `/etc/machine-id` and `/etc` are
func TestSystemdIsUp(t *testing.T) {
	ownOnly(t, needsHandover)
	for _, c := range vmtest.Combinations(t) {
		for _, i := range systemdImages {
			if !long() && (i.quick == nil || !i.quick(c)) {
				continue // AGENTD_LONG=1 boots each in every combination.
			}
			t.Run(c.String()+"/"+i.name, func(t *testing.T) {
				t.Parallel()
				root := i.make(t)
				m := vmtest.Start(t, c.Config(hooks.With(sandbox.Config{
					Disks: []sandbox.Disk{{Path: vmtest.Disk(t, "ext4", root)}},
				}, hooks.Machine{Bootstrap: &wire.Bootstrap{
					BlockRoot: &wire.DiskImage{Device: "/dev/vda"}, HandoffInit: &wire.HandoffInit{Cmd: cmp.Or(i.init, sandbox.AutoInit)},
				}})))
				isUp(t, m, c.Kernel)
			})
		}
	}
}

func isKrunfw(kernel string) bool { return strings.HasPrefix(kernel, "krunfw-") }

// make returns a private copy of the root with its change.
func (i systemdImage) make(t *testing.T) string {
	t.Helper()
	from := vmtest.Debian(t)
	if i.root != "" {
		from = vmtest.InitRoot(t, i.root)
	}
	root := filepath.Join(t.TempDir(), "root")
	if err := errors.Join(image.CopyTree(root, from), i.change(root)); err != nil {
		t.Fatal(err)
	}
	return root
}

// isUp waits for the end of systemd's boot, and holds that no unit failed and nobody
// waits at the console.
func isUp(t *testing.T, m *vmtest.Machine, kernel string) {
	t.Helper()
	g := within(t, m, initPatience)
	start := time.Now()
	state, err := g.say("until [ -S /run/systemd/private ]; do sleep 0.2; done; systemctl is-system-running --wait || :")
	if err != nil {
		jobs, _ := in(t, m).say("systemctl list-jobs")
		t.Fatalf("systemd is not up: %v\n%s", err, jobs)
	}
	t.Logf("systemd was up after %v", time.Since(start).Round(time.Millisecond))
	failed, err := g.say("systemctl --failed --no-legend --plain | cut -d' ' -f1")
	if err != nil || state != "running\n" && failed != lacking(kernel) {
		why, _ := g.say("for u in $(systemctl --failed --no-legend --plain | cut -d' ' -f1); do journalctl -b -u $u --no-pager; done")
		t.Errorf("systemd is %q, %v, with\n%s", state, err, why)
	}
	const want = "active\n33\n0\n0\n"
	got, err := g.say("systemctl is-active multi-user.target; wc -c </etc/machine-id; " +
		"systemctl list-units --no-legend --state=active serial-getty@ttyS0 serial-getty@hvc0 console-getty | wc -l; " +
		"journalctl -b --no-pager | grep -c 'Timed out waiting for device' || :")
	if err != nil || got != want {
		t.Errorf("target, length of the identity, logins at the console and devices waited for: %q, %v, want %q", got, err, want)
	}
}

// lacking are the units of Debian's systemd that fail for what a kernel lacks: the process
// ids of libkrunfw's do not reach as far as kernel.pid_max of 50-pid-max.conf.
func lacking(kernel string) string {
	if isKrunfw(kernel) {
		return "systemd-sysctl.service\n"
	}
	return ""
}

// identity sets /etc/machine-id: nothing is no file, a zero byte an empty one.
func identity(content string) func(string) error {
	return func(root string) error {
		name := filepath.Join(root, "etc/machine-id")
		if err := os.Remove(name); err != nil || content == "" {
			return err
		}
		return os.WriteFile(name, []byte(strings.Trim(content, "\x00")), 0o444)
	}
}

// linkEtc moves /etc and leaves a link, as images of immutable systems do.
func linkEtc(root string) error {
	if err := os.Rename(filepath.Join(root, "etc"), filepath.Join(root, "usr/etc")); err != nil {
		return err
	}
	return os.Symlink("usr/etc", filepath.Join(root, "etc"))
}

// entry is a script that ends as systemd.
func entry(root string) error {
	return os.WriteFile(filepath.Join(root, "entry.sh"), []byte("#!/bin/sh\nexec /lib/systemd/systemd \"$@\"\n"), 0o755)
}

func inTurn(changes ...func(string) error) func(string) error {
	return func(root string) error {
		for _, change := range changes {
			if err := change(root); err != nil {
				return fmt.Errorf("change the root: %w", err)
			}
		}
		return nil
	}
}
