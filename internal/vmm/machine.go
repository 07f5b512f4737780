package vmm

import (
	"errors"
	"fmt"
	"path/filepath"
)

// Console names the device that carries the kernel's console.
type Console int

const (
	// HVC is the virtio console, hvc0: fast, needs its driver in the kernel image.
	HVC Console = iota
	// Serial is the first ISA serial port, ttyS0: every stock kernel has it.
	Serial
)

// Format is how a disk file holds its blocks. It is never guessed: a guest
// that writes a qcow2 header into a raw disk could name any host file in it.
type Format int

const (
	// Raw is a file that is the disk, byte for byte.
	Raw Format = iota
	// Qcow2 is QEMU's own format.
	Qcow2
)

// String returns QEMU's name of the format.
func (f Format) String() string {
	if f == Qcow2 {
		return "qcow2"
	}
	return "raw"
}

// A Share is a host directory that the guest can mount by its tag (virtiofs).
type Share struct {
	Tag      string // 1 to 36 printable bytes
	Dir      string // absolute path on the host
	ReadOnly bool   // enforced on the host, not asked of the guest

	// Private says that nobody on the host but whoever has the machine comes by the
	// directory, so the guest may make what it likes there. In any other there are no
	// device nodes, and no set-user-ID and set-group-ID bits unless SetID is set; what the
	// guest's system keeps as extended attributes has other names on the host.
	Private, SetID bool

	// Steady lets the guest keep what it has read, instead of asking whether the host
	// has changed it: programs start half as fast again under TCG. It is for a
	// directory that nobody else writes to. What the host changes there is never seen,
	// and what the guest writes to a file that the host has replaced is lost.
	Steady bool
}

// A Disk is a file that the guest sees as a virtio block device: the first is
// /dev/vda, in the order of [Machine.Disks].
type Disk struct {
	Path     string // absolute path on the host
	Serial   string // at most 20 printable bytes; "" for none
	ReadOnly bool
	Format   Format

	// Fixed says that the disk is the same in every machine that starts from one
	// saved state: the machine that is saved has it too. See [Save].
	Fixed bool

	placeholder bool // There is no file: see [Machine.placeholders].
}

// A Machine is everything that decides what is started. Its zero value is not
// valid: Kernel, CPUs and MemoryMiB have no defaults.
//
// Every machine has an entropy device and a port named "agent".
type Machine struct {
	Kernel string // ELF or bzImage
	Initrd string // "" for none

	// Cmdline holds words for the kernel, after those that the machine itself
	// needs. KEY=value may hold spaces; it is quoted as the kernel expects.
	Cmdline []string

	CPUs      int
	MemoryMiB int
	Accel     Accel

	// TSCkHz tells a guest under TCG the frequency of its time stamp counter; Start
	// measures it where it is 0. Left to itself a guest counts against a timer,
	// which fails on a busy host, and with ACPI it has no other clock to go on with:
	// it hangs before its first line.
	TSCkHz int

	// TSCSteady says that the counter keeps this frequency whatever the host's
	// processors do; Start looks for it where it measures TSCkHz. A guest under TCG
	// then keeps its time by the counter.
	TSCSteady bool

	// ACPI tells the guest its devices by ACPI tables instead of words on the
	// command line: stock kernels need it. With it a guest ends its machine by
	// power-off, without it by restart.
	ACPI    bool
	Console Console
	Shares  []Share
	Disks   []Disk

	// Records adds a second port, "agent-bulk" (protocol section 14).
	Records bool

	// Card adds a network card with nothing at its far end.
	Card bool
	// Network is a network card with this host's connections, made by QEMU without
	// any privilege. The guest configures it as QEMU's user network has it.
	Network bool

	// Taps are network cards on interfaces of the host, opened by [Options.Taps].
	Taps []Tap

	// Affinity binds QEMU to these host CPUs; empty for all.
	Affinity []int
}

// A Tap is a network card whose far end is a TAP interface of the host. Its
// descriptor comes by [Options.Taps], so the interface can be in another network
// namespace than QEMU, and ends with its last descriptor.
type Tap struct {
	Name string  // of the interface, for a reader of [VM.Command]
	MAC  [6]byte // that the guest sees
}

// NetworkMAC is the address of the network card: the one that QEMU gives to the
// first of a machine. Each machine's network is its own.
var NetworkMAC = [6]byte{0x52, 0x54, 0x00, 0x12, 0x34, 0x56}

const (
	// maxCPUs is what the tables for a machine without ACPI can number: CPU ids
	// of one byte, of which 255 addresses all of them.
	maxCPUs = 255

	// minMemoryMiB is a little over what the reference kernel was seen to start
	// in (48): below it the guest dies before it has a console to say so.
	minMemoryMiB = 64
	// minInitrdMiB is that of a kernel with an initramfs: Debian's were seen to start
	// in 80, and to panic while they unpack it in less.
	minInitrdMiB = 96

	// tagLen is the tag field of the virtio file system device (virtio 1.2, 5.11.4).
	tagLen = 36

	// serialLen is VIRTIO_BLK_ID_BYTES (virtio 1.2, 5.2.6). QEMU cuts longer ones
	// without a word, and the guest would look for a disk that does not exist.
	serialLen = 20

	// slotsPlain and slotsACPI are the virtio slots of QEMU's microvm: as many as
	// interrupt lines are left on its one I/O APIC, or a second APIC's 24.
	slotsPlain = 8
	slotsACPI  = 24

	// slotsOwn are taken in every machine: the serial bus and the entropy device.
	slotsOwn = 2
)

// Check reports everything that is wrong with the machine by itself, without a
// look at the host. QEMU's own message would come late and name QEMU's terms.
func (m Machine) Check() error {
	errs := []error{m.checkSize(), m.checkSlots(), m.checkCmdline(), m.checkShares()}
	for _, d := range m.Disks {
		errs = append(errs, d.check())
	}
	return errors.Join(errs...)
}

func (m Machine) checkSize() error {
	switch {
	case m.Kernel == "":
		return errors.New("machine has no kernel")
	case m.CPUs < 1 || m.CPUs > maxCPUs:
		return fmt.Errorf("%d CPUs: want 1 to %d", m.CPUs, maxCPUs)
	case m.MemoryMiB < m.minMemory():
		return fmt.Errorf("%d MiB of memory: this kernel needs at least %d", m.MemoryMiB, m.minMemory())
	}
	for _, cpu := range m.Affinity {
		if cpu < 0 {
			return fmt.Errorf("host CPU %d: want 0 or more", cpu)
		}
	}
	return nil
}

// minMemory is what the kernel needs to start at all, in MiB.
func (m Machine) minMemory() int {
	if m.Initrd != "" {
		return minInitrdMiB
	}
	return minMemoryMiB
}

func (m Machine) checkSlots() error {
	slots, kind := slotsPlain, "without ACPI"
	if m.ACPI {
		slots, kind = slotsACPI, "with ACPI"
	}
	n, what := len(m.Shares)+len(m.Disks), "shares and disks"
	if m.Card || m.Network {
		n, what = n+1, "shares, disks and a network card"
	}
	if len(m.Taps) > 0 {
		n, what = n+len(m.Taps), "shares, disks and network cards"
	}
	if n > slots-slotsOwn {
		return fmt.Errorf("%d %s: a machine %s has room for %d", n, what, kind, slots-slotsOwn)
	}
	return nil
}

func (m Machine) checkShares() error {
	seen := make(map[string]bool)
	for _, s := range m.Shares {
		if err := s.check(); err != nil {
			return err
		}
		if seen[s.Tag] {
			return fmt.Errorf("two shares have the tag %q", s.Tag)
		}
		seen[s.Tag] = true
	}
	return nil
}

func (s Share) check() error {
	switch {
	case s.Tag == "" || len(s.Tag) > tagLen || !printable(s.Tag):
		return fmt.Errorf("share tag %q: want 1 to %d printable bytes", s.Tag, tagLen)
	case !filepath.IsAbs(s.Dir):
		return fmt.Errorf("share %s: directory %q: want an absolute path", s.Tag, s.Dir)
	}
	return nil
}

func (d Disk) check() error {
	switch {
	case !filepath.IsAbs(d.Path):
		return fmt.Errorf("disk %q: want an absolute path", d.Path)
	case len(d.Serial) > serialLen || !printable(d.Serial):
		return fmt.Errorf("disk %s: serial %q: want at most %d printable bytes", d.Path, d.Serial, serialLen)
	case d.Format != Raw && d.Format != Qcow2:
		return fmt.Errorf("disk %s: unknown format %d", d.Path, d.Format)
	}
	return nil
}

// printable reports whether s is plain ASCII without control bytes.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return true
}
