package sandbox

import (
	"context"
	"errors"
	"fmt"

	"github.com/agentd-go/agentd/internal/image"
	"github.com/agentd-go/agentd/internal/vmm"
)

// HostPlatform is the platform of machines whose Config names none: linux/amd64 or
// linux/arm64.
const HostPlatform = "linux/" + string(vmm.HostArchitecture)

// want selects images for a platform and an accelerator; "" is this host's platform.
func want(platform string, accel vmm.Accel) (image.Want, error) {
	return image.Wanted(platform, func(a string) int { return vmm.Level(vmm.Architecture(a), accel) })
}

// ParsePlatform checks OS/ARCHITECTURE[/VARIANT], or an architecture alone, and returns
// the platform without its variant; "" is this host's.
func ParsePlatform(s string) (string, error) {
	a, err := architectureOf(s)
	return "linux/" + string(a), err
}

func architectureOf(platform string) (vmm.Architecture, error) {
	w, err := want(platform, vmm.TCG)
	return vmm.Architecture(w.Machine().Architecture), err
}

// architecture returns the architecture of the machine, whose configuration was checked.
func (c Config) architecture() vmm.Architecture {
	a, _ := architectureOf(c.Platform)
	return a
}

// checkPlatform refuses what machines of the platform cannot have.
func (c Config) checkPlatform() error {
	a, err := architectureOf(c.Platform)
	if err == nil && c.Accel == AccelKVM && a != vmm.HostArchitecture {
		err = fmt.Errorf("accelerator kvm: it runs machines for %s here, and none for %s", HostPlatform, c.Platform)
	}
	return err
}

// checkPages refuses a kernel that cannot mount the machine's file systems: their blocks
// have 4 KiB. Linux mounts EROFS with blocks smaller than its pages since 6.4
// (fs/erofs/super.c); ext4 and virtiofs do not depend on the pages.
func checkPages(k image.Kernel, disks []vmm.Disk) error {
	const block = 4 << 10
	if len(disks) == 0 || k.PageSize <= block || k.Since(6, 4) {
		return nil
	}
	return fmt.Errorf("kernel %s has pages of %d KiB: before Linux 6.4 it cannot mount an image, whose blocks have 4 KiB: want a kernel with pages of 4 KiB", k.Name, k.PageSize>>10)
}

// Provide fetches what a machine for another architecture than this host's needs, unless
// the cache has it: a kernel, and the program of the small root. It calls say with a line
// before each, because that takes time. It fetches by the distribution's package manager
// (apt), as [Cache.FetchKernel] does. A missing QEMU is an error that names the package.
func (c *Cache) Provide(ctx context.Context, cfg Config, say func(line string)) error {
	a, err := architectureOf(cfg.Platform)
	if err != nil || a == vmm.HostArchitecture {
		return err
	}
	if _, err := vmm.FindQEMU(a); err != nil {
		return err
	}
	if _, err = c.files.KernelFor(string(a), cfg.Kernel); errors.Is(err, image.ErrNoKernel) && cfg.Kernel == "" {
		say(fmt.Sprintf("fetching a kernel for %s by apt, which is kept", a))
		if _, err = c.files.FetchKernel(ctx, string(a)); err != nil {
			return err
		}
	}
	if cfg.Image != "" || cfg.Root != "" {
		return nil // An error of the kernel is the start's.
	}
	if _, err = c.files.FindBusybox(string(a)); err != nil {
		say(fmt.Sprintf("fetching a static busybox for %s by apt, which is kept: it is the machine's root", a))
	}
	return c.files.FetchBusybox(ctx, string(a))
}
