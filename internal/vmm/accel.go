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

// DetectAccel chooses between [KVM] and [TCG] for this host, and says why in a
// line for the user.
func DetectAccel() (choice Accel, reason string) {
	f, err := os.OpenFile(kvmDevice, os.O_RDWR, 0)
	if err == nil {
		err = f.Close()
	}
	cpuinfo, infoErr := os.ReadFile("/proc/cpuinfo")
	return chooseAccel(errors.Join(err, infoErr), string(cpuinfo), kvmGroup())
}

// chooseAccel also checks the CPU flag: a kernel inside another machine may offer
// /dev/kvm although the CPU has no virtualization, and then QEMU aborts.
func chooseAccel(open error, cpuinfo, group string) (choice Accel, reason string) {
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
	if !virtualizes(cpuinfo) {
		return TCG, software("the CPU shows neither vmx nor svm")
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

// virtualizes looks for the flags of Intel's (vmx) and AMD's (svm) extension.
func virtualizes(cpuinfo string) bool {
	flags := processorFlags(cpuinfo)
	return slices.Contains(flags, "vmx") || slices.Contains(flags, "svm")
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
		m.Accel, _ = DetectAccel()
	}
	if m.Accel == TCG && m.TSCkHz == 0 {
		m.TSCkHz = measureTSC()
		cpuinfo, _ := os.ReadFile("/proc/cpuinfo") // Without the file the counter counts as not steady.
		m.TSCSteady = steady(string(cpuinfo))
	}
	return m
}
