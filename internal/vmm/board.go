package vmm

import (
	"fmt"
	"runtime"
	"strings"
)

// An Architecture is a kind of processor, by Go's name. "" is that of this host.
type Architecture string

// The architectures of machines.
const (
	AMD64 Architecture = "amd64"
	ARM64 Architecture = "arm64"
)

// HostArchitecture is the architecture of this host.
const HostArchitecture = Architecture(runtime.GOARCH)

// orHost returns the architecture, or this host's if it is "".
func (a Architecture) orHost() Architecture {
	if a == "" {
		return HostArchitecture
	}
	return a
}

// A board is the machine that QEMU emulates for one architecture. Everything in which
// the machines of two architectures differ comes from their boards.
type board struct {
	architecture Architecture
	emulator     string // QEMU's program.
	debian       string // Debian's package with that program.
	variable     string // The environment variable with the path of that program.

	// machine returns the value of -machine.
	machine func(m Machine) string
	// cpu is the value of -cpu without KVM.
	cpu string
	// serial is the kernel's name of the port behind [Serial].
	serial string
	// words are the kernel's words of every machine; emulated are those of an emulated
	// one in addition.
	words    []string
	emulated func(m Machine) []string
	// counter measures the value of [Machine.TSCkHz]; nil if the architecture has no
	// such counter.
	counter func() int
	// ownTree says that the board describes its devices to the kernel by itself. Others
	// do so by ACPI tables, or else by words of the kernel's command line.
	ownTree bool
	// slots is the number of virtio devices without and with ACPI.
	slots [2]int
	// bus names the bus of the device with that number; nil lets QEMU choose. QEMU then
	// gives the first device of virt the last bus, and Linux names disks in the order of
	// the buses.
	bus func(n int) string
	// processor are the lines of /proc/cpuinfo that identify a type of processor.
	processor []string
	// virtualizes reports whether a processor can run machines by KVM, and otherwise
	// what it lacks.
	virtualizes func(cpuinfo string) (lacks string)
	// level is the level of the processor that programs in a machine can use.
	level func(a Accel, cpuinfo string) int
}

// boards are the boards of all architectures.
var boards = map[Architecture]*board{
	AMD64: {
		architecture: AMD64,
		emulator:     "qemu-system-x86_64",
		debian:       "qemu-system-x86",
		variable:     EnvQEMU + "_AMD64",
		machine:      microvm,
		cpu:          "max",
		serial:       "ttyS0",
		words:        []string{"reboot=t"},
		emulated:     Machine.clockWords,
		counter:      measureTSC,
		slots:        [2]int{slotsPlain, slotsACPI},
		processor:    []string{"vendor_id", "cpu family", "model", "model name", "stepping", "microcode", "flags"},
		virtualizes:  virtualizesAMD64,
		level:        levelAMD64,
	},
	ARM64: {
		architecture: ARM64,
		emulator:     "qemu-system-aarch64",
		debian:       "qemu-system-arm",
		variable:     EnvQEMU + "_ARM64",
		machine:      virt,
		// Linux and programs for arm64 (v8) need neither pointer authentication nor the
		// scalable vectors and matrices. Kernels use the first in each function, and save
		// the others: without them a boot takes 25 % less of the host's processor.
		cpu:         "max,pauth=off,sve=off,sme=off",
		serial:      "ttyAMA0",
		emulated:    func(Machine) []string { return nil },
		ownTree:     true,
		slots:       [2]int{slotsVirt, slotsVirt},
		bus:         func(n int) string { return fmt.Sprintf("virtio-mmio-bus.%d", n) },
		processor:   []string{"CPU implementer", "CPU architecture", "CPU variant", "CPU part", "CPU revision", "Features"},
		virtualizes: func(string) string { return "" }, // The device exists only if the kernel runs in the processor's mode for hypervisors.
		level:       func(Accel, string) int { return 1 },
	},
}

// Architectures returns all architectures of machines, this host's first.
func Architectures() []Architecture {
	if HostArchitecture == ARM64 {
		return []Architecture{ARM64, AMD64}
	}
	return []Architecture{AMD64, ARM64}
}

// boardOf returns the board of an architecture.
func boardOf(a Architecture) (*board, error) {
	if b, ok := boards[a.orHost()]; ok {
		return b, nil
	}
	return nil, fmt.Errorf("architecture %q: machines are %s or %s", a, AMD64, ARM64)
}

// board returns the machine's board. Check has refused unknown architectures; without it
// they get the board of x86-64.
func (m Machine) board() *board {
	b, err := boardOf(m.Architecture)
	if err != nil {
		return boards[AMD64]
	}
	return b
}

// microvm is the machine for x86-64. Its interval timer and interrupt controller stay
// on: without them a guest hangs under software emulation.
func microvm(m Machine) string {
	if m.ACPI {
		return "microvm,pcie=off,rtc=on,acpi=on"
	}
	return "microvm,pcie=off,rtc=on,acpi=off"
}

// virt is the machine for arm64. Without firmware a kernel reads the device tree and no
// ACPI tables. KVM can only offer the interrupt controller of the host.
func virt(m Machine) string {
	if m.Accel == KVM {
		return "virt,gic-version=host,acpi=off"
	}
	return "virt,gic-version=3,acpi=off"
}

// slot gives each virtio device of the arguments its bus.
func (b *board) slot(args []string) []string {
	if b.bus == nil {
		return args
	}
	n := 0
	for i := 1; i < len(args); i++ {
		driver, _, _ := strings.Cut(args[i], ",")
		if args[i-1] == "-device" && strings.HasSuffix(driver, "-device") {
			args[i] += ",bus=" + b.bus(n)
			n++
		}
	}
	return args
}
