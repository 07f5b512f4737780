package sandbox

import (
	"errors"

	"github.com/agentd-go/agentd/internal/image"
	"github.com/agentd-go/agentd/internal/vmm"
)

// Supported returns nil if this host has everything that a machine needs: QEMU,
// virtiofsd, busybox and a kernel. The error names all missing parts and how to get
// them.
func Supported() error { return SupportedFor(HostPlatform) }

// SupportedFor is Supported for machines of a platform, OS/ARCHITECTURE.
func SupportedFor(platform string) error {
	a, err := architectureOf(platform)
	if err != nil {
		return err
	}
	cache, err := image.Open("")
	if err != nil {
		return err
	}
	_, qemu := vmm.FindQEMU(a)
	_, virtiofsd := vmm.FindVirtiofsd()
	_, busybox := cache.FindBusybox(string(a))
	_, kernel := cache.KernelFor(string(a), "")
	return errors.Join(qemu, virtiofsd, busybox, kernel)
}
