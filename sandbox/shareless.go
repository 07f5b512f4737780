package sandbox

import "github.com/agentd-go/agentd/internal/image"

// shareless reports whether a machine can do without shared directories, where
// the host cannot serve any: an ordinary user in a chroot gets no user namespace,
// which virtiofsd needs. The small root is then a disk instead of a directory, for
// which the kernel must be one that starts from an initramfs.
func (c Config) shareless(kernel image.Kernel) bool {
	return c.Root == "" && c.Runtime == "" && len(c.Shares) == 0 && kernel.Initrd && !c.hooks.Foreign
}

// withoutShares has the small root as an image, unless there is one.
func withoutShares(cfg Config, cache *image.Cache) (Config, error) {
	if cfg.Image != "" {
		return cfg, nil
	}
	busybox, err := image.FindBusybox()
	if err != nil {
		return cfg, err
	}
	cfg.Image, err = cache.BusyboxRoot(busybox)
	return cfg, err
}
