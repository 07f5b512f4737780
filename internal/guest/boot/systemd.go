package boot

import (
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/agentd-go/agentd/internal/guest/sys"
)

// LogDir is the directory of the log of an agent beside another init. The step run-dirs
// makes it, and the step handover again where it mounts /run.
const LogDir = "/run/microsandbox"

const (
	// machineID is where systemd has the machine's identity (machine-id(5)).
	machineID = "/etc/machine-id"

	// runtimeUnits has units that last until the next boot (systemd.unit(5)). They take
	// precedence over the units of packages, and those in /etc over them.
	runtimeUnits = "/run/systemd/system"

	// activeConsoles has the names of the devices that the kernel writes its console to.
	activeConsoles = "/sys/class/tty/console/active"
)

// runMount is /run as systemd would mount it. systemd mounts nothing over a mount.
var runMount = sys.Mount{
	Source: "tmpfs", Type: "tmpfs", Target: "/run", Flags: sys.NoSUID | sys.NoDev, Data: "mode=0755,size=20%,nr_inodes=800k",
}

// askingUnits wait for a key on the console, which is only the machine's log. The first two
// wait for ever in a first boot. The third offers a login if the host sets the variable
// container.
var askingUnits = []string{"systemd-firstboot.service", "systemd-homed-firstboot.service", "console-getty.service"}

// runsSystemd reports whether the init is systemd, or a script, as images have one
// before it, in a root that has systemd.
func (m *Machine) runsSystemd(init string) bool {
	const systemd, longest = "/lib/systemd/systemd", 64 << 10 // A longer file is no such script.
	file, err := sys.RealPath(init)
	if err != nil || path.Base(file) == path.Base(systemd) {
		return err == nil
	}
	b, err := m.root.ReadFile(file, longest)
	return err == nil && strings.HasPrefix(string(b), "#!") && sys.NotExecutable(systemd) == nil
}

// settleSystemd keeps systemd from waiting for devices and input that a machine does not
// have, under every host. If the root cannot be written, or has links in the way, it prints
// a line and leaves the root as it is.
func (m *Machine) settleSystemd() {
	if err := errors.Join(m.identify(), m.mask()); err != nil {
		sys.Logf("what systemd finds: %v", err)
	}
}

// identify makes an empty machineID file, if there is none. Without the file systemd takes
// the boot for the first one and resets its units; with an empty file it only makes an
// identity. An image with "uninitialized" in the file asks for a first boot and gets it.
func (m *Machine) identify() error {
	const everybodyReadsOnly = 0o444 // As systemd makes it.
	if err := m.root.NewFile(machineID, nil, everybodyReadsOnly); !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// mask masks askingUnits and the logins on the console. Without udev the devices of these
// logins never appear, and the boot would wait 90 s for them (systemd-getty-generator(8)).
func (m *Machine) mask() error {
	if err := m.mountRun(); err != nil {
		return err
	}
	consoles, err := m.root.ReadFile(activeConsoles, 1<<10)
	for _, unit := range units(string(consoles)) {
		err = errors.Join(err, m.root.Symlink("/dev/null", path.Join(runtimeUnits, unit)))
	}
	return err
}

func units(consoles string) []string {
	all := slices.Clone(askingUnits)
	for device := range strings.FieldsSeq(consoles) {
		all = append(all, "serial-getty@"+device+".service")
	}
	return all
}

// mountRun mounts /run before systemd does: a later mount would hide the units and the
// agent's log, which are written there. It makes the log's directory again.
func (m *Machine) mountRun() error {
	there, err := m.root.IsMount(runMount.Target)
	if there || err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := m.root.Mount(runMount); err != nil {
		return err
	}
	m.undo = append(m.undo, undo{target: runMount.Target, kernel: true})
	return m.root.MkdirAll(LogDir, 0o755)
}
