package sandbox

import (
	"errors"

	"github.com/agentd-go/agentd/internal/image"
	"github.com/agentd-go/agentd/internal/vmm"
)

// Supported returns nil if this host has everything that a machine needs: QEMU,
// virtiofsd, busybox and a kernel. The error names all missing parts and how to get
// them.
func Supported() error {
	_, qemu := vmm.FindQEMU(vmm.HostArchitecture)
	_, virtiofsd := vmm.FindVirtiofsd()
	_, busybox := image.FindBusybox()
	return errors.Join(qemu, virtiofsd, busybox, anyKernel())
}

func anyKernel() error {
	cache, err := image.Open("")
	if err != nil {
		return err
	}
	_, err = cache.Kernel("")
	return err
}
