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
	// Serial is the board's serial port, ttyS0 or ttyAMA0: every stock kernel has it.
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
	ReadOnly bool   // enforced on the host

	// Private says that only the machine's owner can reach the directory on the host, so
	// the guest may make any file there. In other shares the guest cannot make device
	// nodes, nor set-user-ID and set-group-ID bits unless SetID is set; the extended
	// attributes of the guest's system have other names on the host.
	Private, SetID bool

	// Steady lets the guest cache the directory without asking the host for changes.
	// Programs then start 1.5 times as fast under TCG. It is only for a directory that
	// nobody else writes to: the guest never sees changes of the host, and loses what
	// it writes to a file that the host has replaced.
	Steady bool
}

// A Disk is a file that the guest sees as a virtio block device: the first is
// /dev/vda, in the order of [Machine.Disks].
type Disk struct {
	Path     string // absolute path on the host
	Serial   string // at most 20 printable bytes; "" for none
	ReadOnly bool
	Format   Format

	// Fixed says that the disk is the same in the saved machine and in every machine
	// that starts from the saved state. See [Save].
	Fixed bool
	// Anew says that the guest looks at the disk anew after it has started from a saved
	// state, so that it may have any size and format. See [Save].
	Anew bool

	placeholder bool // It has no file; see [Machine.placeholders].
}

// A Machine describes the machine to start. Its zero value is not valid: Kernel, CPUs
// and MemoryMiB have no defaults.
//
// Every machine has an entropy device and a port named "agent".
type Machine struct {
	Architecture Architecture // "" is this host's.

	Kernel string // ELF or bzImage; for arm64 an Image
	Initrd string // "" for none

	// Cmdline holds words for the kernel, after those that the machine itself
	// needs. KEY=value may hold spaces; it is quoted as the kernel expects.
	Cmdline []string

	CPUs      int
	MemoryMiB int
	Accel     Accel
	// TranslationMiB bounds the memory for translated code in software emulation, where it
	// is at least 16; 0 means QEMU's choice, up to 1 GiB. KVM translates nothing.
	TranslationMiB int

	// TSCkHz is the frequency of the time stamp counter, for a guest under TCG; Start
	// measures it if it is 0. Without it a guest measures the frequency by a timer,
	// which fails on a busy host. With ACPI the guest has no other clock then and hangs
	// before its first line.
	TSCkHz int

	// TSCSteady says that the counter always has this frequency; Start finds it out
	// when it measures TSCkHz. A guest under TCG then keeps time by the counter.
	TSCSteady bool

	// ACPI describes the devices to the guest by ACPI tables instead of the kernel
	// command line; stock kernels for x86-64 need it. With ACPI a guest ends its machine
	// by power-off, without it by restart. On arm64 it has no effect: the device tree
	// describes the devices, and both ways end a machine.
	ACPI    bool
	Console Console
	Shares  []Share
	Disks   []Disk

	// Records adds a second port, "agent-bulk" (protocol section 14).
	Records bool

	// Card adds a network card without a network.
	Card bool
	// Network adds a network card on QEMU's user network, which uses this host's
	// connections and needs no privilege. The guest must use that network's addresses.
	Network bool

	// Taps are network cards on interfaces of the host, opened by [Options.Taps].
	Taps []Tap

	// Affinity binds QEMU to these host CPUs; empty means all.
	Affinity []int
}

// A Tap is a network card on a TAP interface of the host. [Options.Taps] holds its
// descriptor, so the interface can be in another network namespace than QEMU. The
// interface vanishes when its last descriptor is closed.
type Tap struct {
	Name string  // of the interface, for readers of [VM.Command]
	MAC  [6]byte // that the guest sees
}

// NetworkMAC is the address of the network card, QEMU's default for the first card. All
// machines can have the same address, because each has its own network.
var NetworkMAC = [6]byte{0x52, 0x54, 0x00, 0x12, 0x34, 0x56}

const (
	// maxCPUs is the limit of the tables for a machine without ACPI: CPU ids have one
	// byte, and id 255 means all CPUs.
	maxCPUs = 255

	// MinTranslationMiB still holds what a boot executes most: with 8 a boot takes five
	// times as long, because QEMU forgets all translated code when there is no room.
	MinTranslationMiB = 16
	// minMemoryMiB is a little more than the reference kernel needed to start (48).
	// With less the guest dies before it has a console.
	minMemoryMiB = 64
	// minInitrdMiB is the minimum for a kernel with an initramfs. Debian's kernels
	// started with 80 MiB; with less they panicked while they unpacked it.
	minInitrdMiB = 96

	// tagLen is the tag field of the virtio file system device (virtio 1.2, 5.11.4).
	tagLen = 36

	// serialLen is VIRTIO_BLK_ID_BYTES (virtio 1.2, 5.2.6). QEMU cuts longer ones
	// silently, and the guest would look for a disk that does not exist.
	serialLen = 20

	// slotsPlain and slotsACPI are the virtio slots of QEMU's microvm: the free
	// interrupt lines of its one I/O APIC, or the 24 lines of a second one.
	slotsPlain = 8
	slotsACPI  = 24
	// slotsVirt are those of QEMU's virt (NUM_VIRTIO_TRANSPORTS).
	slotsVirt = 32

	// slotsOwn are the slots that every machine uses: the serial bus and the entropy
	// device.
	slotsOwn = 2
)

// Check validates the machine without looking at the host, and reports all errors. QEMU
// would report them late and in its own terms.
func (m Machine) Check() error {
	if _, err := boardOf(m.Architecture); err != nil {
		return err
	}
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
	case m.TranslationMiB != 0 && m.TranslationMiB < MinTranslationMiB:
		return fmt.Errorf("%d MiB for translated code: want %d at least, or 0", m.TranslationMiB, MinTranslationMiB)
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

// minMemory returns the least memory that the kernel needs to start, in MiB.
func (m Machine) minMemory() int {
	if m.Initrd != "" {
		return minInitrdMiB
	}
	return minMemoryMiB
}

// Room returns how many shares, disks and network cards the machine's board can have.
func (m Machine) Room() int {
	b := m.board()
	if m.ACPI {
		return b.slots[1] - slotsOwn
	}
	return b.slots[0] - slotsOwn
}

func (m Machine) checkSlots() error {
	kind := "without ACPI"
	switch b := m.board(); {
	case b.ownTree:
		kind = "for " + string(b.architecture)
	case m.ACPI:
		kind = "with ACPI"
	}
	n, what := len(m.Shares)+len(m.Disks), "shares and disks"
	if m.Card || m.Network {
		n, what = n+1, "shares, disks and a network card"
	}
	if len(m.Taps) > 0 {
		n, what = n+len(m.Taps), "shares, disks and network cards"
	}
	if room := m.Room(); n > room {
		return fmt.Errorf("%d %s: a machine %s has room for %d", n, what, kind, room)
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
	case s.Tag == "" || len(s.Tag) > tagLen || !printableASCII(s.Tag):
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
	case len(d.Serial) > serialLen || !printableASCII(d.Serial):
		return fmt.Errorf("disk %s: serial %q: want at most %d printable bytes", d.Path, d.Serial, serialLen)
	case d.Format != Raw && d.Format != Qcow2:
		return fmt.Errorf("disk %s: unknown format %d", d.Path, d.Format)
	}
	return nil
}

// printableASCII reports whether s is plain ASCII without control bytes.
func printableASCII(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return true
}
