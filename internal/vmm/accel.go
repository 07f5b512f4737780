package vmm

import (
	"errors"
	"io/fs"
	"os"
	"os/user"
	"slices"
)

// Accel is the accelerator that executes the guest's instructions.
type Accel int

const (
	// Auto is KVM where it works, else TCG.
	Auto Accel = iota
	// KVM is the host's CPU by the Linux kernel.
	KVM
	// TCG is QEMU's software emulation; some ten times slower.
	TCG
)

// String returns QEMU's name of the accelerator.
func (a Accel) String() string {
	switch a {
	case KVM:
		return "kvm"
	case TCG:
		return "tcg"
	case Auto:
	}
	return "auto"
}

// DetectAccel chooses between [KVM] and [TCG] for machines of an architecture on this
// host, and says why in a line for the user.
func DetectAccel(a Architecture) (choice Accel, reason string) {
	if a = a.orHost(); a != HostArchitecture {
		return TCG, "using software emulation of " + string(a) + ", which is slower"
	}
	b, err := boardOf(a)
	if err != nil {
		return TCG, software(err.Error())
	}
	f, err := os.OpenFile(kvmDevice, os.O_RDWR, 0)
	if err == nil {
		err = f.Close()
	}
	cpuinfo, infoErr := os.ReadFile("/proc/cpuinfo")
	return b.chooseAccel(errors.Join(err, infoErr), string(cpuinfo), kvmGroup())
}

// chooseAccel also checks the CPU flag: a kernel inside another machine may offer
// /dev/kvm although the CPU has no virtualization, and then QEMU aborts.
func (b *board) chooseAccel(open error, cpuinfo, group string) (choice Accel, reason string) {
	if path, ok := errors.AsType[*fs.PathError](open); ok {
		why := path.Path + ": " + path.Err.Error()
		if errors.Is(path, fs.ErrPermission) {
			why += mayOpen(group)
		}
		return TCG, software(why)
	}
	if open != nil {
		return TCG, software(open.Error())
	}
	if lacks := b.virtualizes(cpuinfo); lacks != "" {
		return TCG, software(lacks)
	}
	return KVM, "using hardware virtualization (KVM)"
}

const kvmDevice = "/dev/kvm"

// kvmGroup returns the name of the group that may use the device; "" if no group may,
// or only root's.
func kvmGroup() string {
	info, err := os.Stat(kvmDevice)
	if err != nil || info.Mode()&groupUses != groupUses {
		return ""
	}
	gid := groupOf(info)
	if g, err := user.LookupGroupId(gid); err == nil && gid != "0" {
		return g.Name
	}
	return ""
}

// groupUses are a group's read and write bits.
const groupUses = 0o060

// mayOpen tells an ordinary user how to get access.
func mayOpen(group string) string {
	if group == "" {
		return "; no group but root's may open it; as root: chgrp kvm /dev/kvm && chmod 660 /dev/kvm"
	}
	return "; the group " + group + " may open it: sudo usermod --append --groups " + group + ` "$USER", then log in again`
}

func software(why string) string {
	return "no hardware virtualization (" + why + "); using software emulation, which is slower"
}

// virtualizesAMD64 looks for the flags of Intel's (vmx) and AMD's (svm) extension.
func virtualizesAMD64(cpuinfo string) (lacks string) {
	flags := processorFlags(cpuinfo)
	if slices.Contains(flags, "vmx") || slices.Contains(flags, "svm") {
		return ""
	}
	return "the CPU shows neither vmx nor svm"
}

// steady reports whether the time stamp counter has a constant rate, even while a
// processor sleeps.
func steady(cpuinfo string) bool {
	flags := processorFlags(cpuinfo)
	return slices.Contains(flags, "constant_tsc") && slices.Contains(flags, "nonstop_tsc")
}

// resolve replaces an Accel of Auto and an unknown TSCkHz by the values of this host.
// It keeps explicit values.
func (m Machine) resolve() Machine {
	if m.Accel == Auto {
		m.Accel, _ = DetectAccel(m.Architecture)
	}
	if measure := m.board().counter; m.Accel == TCG && m.TSCkHz == 0 && measure != nil {
		m.TSCkHz = measure()
		cpuinfo, _ := os.ReadFile("/proc/cpuinfo") // Without the file the counter counts as not steady.
		m.TSCSteady = steady(string(cpuinfo))
	}
	return m
}

// MeasureTSC returns the value of [Machine.TSCkHz] for an emulated machine on this host,
// or 0 if it is unknown or the architecture has no such counter. It takes 20 ms.
func MeasureTSC(a Architecture) int {
	if b, err := boardOf(a); err == nil && b.counter != nil {
		return b.counter()
	}
	return 0
}
