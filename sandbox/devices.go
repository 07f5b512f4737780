package sandbox

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/agentd-go/agentd/internal/vmm"
)

// A Share is a host directory that the guest can mount by its tag (virtiofs). The
// caller must mount it in the guest; [Config.Mounts] are mounted by themselves.
type Share struct {
	Tag      string `json:"tag"` // 1 to 36 printable bytes.
	Dir      string `json:"dir"`
	ReadOnly bool   `json:"readonly,omitempty"` // Enforced on the host.

	// SetID lets the guest set set-user-ID and set-group-ID bits there. If this program
	// runs as root, any user of the host who can reach the directory could then become
	// root. Without SetID the guest's chmod(2) fails with EPERM.
	SetID bool `json:"suid,omitempty"`
}

// A Tap is a network card on a TAP interface of this host. The guest sees the card with
// the address MAC. The agent does not configure it; the caller must.
type Tap struct {
	Name string   // Name of the interface, for readers of [Machine.RepeatScript].
	MAC  [6]byte  // The address that the guest sees.
	File *os.File // Its open descriptor, which the caller closes.
}

// A DiskFormat is how a disk file holds its blocks. It is never guessed: a guest
// that writes a qcow2 header into a raw disk could name any host file in it.
type DiskFormat string

// The formats; "" is Raw.
const (
	Raw   DiskFormat = "raw"
	Qcow2 DiskFormat = "qcow2"
)

// A Disk is a file that the guest sees as a block device. The first is /dev/vda, in the
// order of [Config.Disks]; the disks of an image and its upper come before them, and those
// of the small root after them. The guest also finds a disk by its serial.
type Disk struct {
	Path     string     `json:"path"`
	Serial   string     `json:"serial,omitempty"` // At most 20 printable bytes; "" for none.
	ReadOnly bool       `json:"readonly,omitempty"`
	Format   DiskFormat `json:"format,omitempty"`

	// Target is the directory on which the guest mounts it; "" means none. FSType is
	// its file system; if it is "", the signature decides.
	Target string `json:"target,omitempty"`
	FSType string `json:"fstype,omitempty"`
}

// formats maps a DiskFormat to that of package vmm.
var formats = map[DiskFormat]vmm.Format{"": vmm.Raw, Raw: vmm.Raw, Qcow2: vmm.Qcow2}

// checkDevices refuses missing shares and disks. Package vmm checks their number, tags
// and serials.
func (c Config) checkDevices() error {
	for _, s := range c.Shares {
		if info, err := os.Stat(s.Dir); err != nil {
			return fmt.Errorf("share %s: %w", s.Tag, err)
		} else if !info.IsDir() {
			return fmt.Errorf("share %s: %s: not a directory", s.Tag, s.Dir)
		}
	}
	for _, d := range c.Disks {
		if _, ok := formats[d.Format]; !ok {
			return fmt.Errorf("disk %s: format %q: want raw or qcow2", d.Path, d.Format)
		}
		if _, err := os.Stat(d.Path); err != nil {
			return fmt.Errorf("disk: %w", err)
		}
	}
	return c.checkMounts()
}

// attach adds the shares and disks of the configuration to the machine.
func (l *layout) attach(cfg Config) error {
	for _, s := range cfg.Shares {
		dir, err := filepath.Abs(s.Dir)
		if err != nil {
			return err
		}
		l.machine.Shares = append(l.machine.Shares, vmm.Share{Tag: s.Tag, Dir: dir, ReadOnly: s.ReadOnly, SetID: s.SetID})
	}
	for _, t := range cfg.Taps {
		l.machine.Taps = append(l.machine.Taps, vmm.Tap{Name: t.Name, MAC: t.MAC})
	}
	for i, d := range cfg.Disks {
		path, err := filepath.Abs(d.Path)
		if err != nil {
			return err
		}
		anew, err := l.anew(i, path)
		if err != nil {
			return err
		}
		l.machine.Disks = append(l.machine.Disks, vmm.Disk{
			Path: path, Serial: diskSerial(i, d), ReadOnly: d.ReadOnly, Format: formats[d.Format], Anew: anew,
		})
	}
	return l.mount(cfg)
}

// numbers are those of some disks of a machine, in their order, from one to before another.
type numbers struct{ from, end int }

// anew reports whether a guest from a template must look at a disk anew. Layers have no
// partitions, and nobody needs the size of a read-only one; QEMU says that of the others.
func (l *layout) anew(i int, path string) (bool, error) {
	if i < l.layers.from || i >= l.layers.end {
		return true, nil
	}
	info, err := os.Stat(path)
	return err == nil && info.Size() > vmm.PlaceholderBytes, err
}

// newDisks are the devices of the disks that a guest from a template must look at anew.
func (l *layout) newDisks() (devices []string) {
	for i, d := range l.machine.Disks {
		if d.Anew {
			devices = append(devices, diskDevice(i))
		}
	}
	return devices
}

// diskDevice is Linux's name of the virtio disk with that number: vda to vdz, then vdaa.
func diskDevice(i int) string {
	const letters = 26
	name := string(rune('a' + i%letters))
	if i >= letters {
		name = string(rune('a'+i/letters-1)) + name
	}
	return "/dev/vd" + name
}

func (c Config) tapFiles() (files []*os.File) {
	for _, t := range c.Taps {
		files = append(files, t.File)
	}
	return files
}

// guestModules are the modules that a stock kernel needs for the machine's devices, and
// for a layered root if the root is on disks.
func (c Config) guestModules() []string {
	modules := []string{"virtio_mmio", "virtio_console", "virtiofs", "virtio_rng"}
	if len(c.Disks) > 0 {
		modules = append(modules, "virtio_blk", "erofs", "overlay", "ext4")
	}
	if c.hooks.Card || c.Network || len(c.Taps) > 0 {
		modules = append(modules, "virtio_net")
	}
	return append(modules, c.Modules...)
}
