package sandbox

import (
	"os"
	"path/filepath"

	"github.com/agentd-go/agentd/internal/image"
)

// needsNoShares reports whether a machine can run on a host that cannot share
// directories: an ordinary user in a chroot gets no user namespace, which virtiofsd
// needs. The small root is then a disk instead of a directory.
func (c Config) needsNoShares() bool {
	return c.Root == "" && c.Runtime == "" && len(c.Shares) == 0 && !c.hooks.Foreign
}

// hasUpper reports whether an earlier life of the machine has the small root on a disk;
// later lives keep that.
func (l *layout) hasUpper(cfg Config) bool {
	return cfg.Image == "" && cfg.needsNoShares() && l.hasFile("upper") && !l.hasFile("root")
}

// hasFile reports whether the machine's directory has a file of that name.
func (l *layout) hasFile(name string) bool {
	_, err := os.Lstat(filepath.Join(l.dir, name))
	return err == nil
}

// fromSmallRoot is fromImage for the small root.
func (l *layout) fromSmallRoot(cfg Config, cache *image.Cache) (Config, error) {
	busybox, err := cache.FindBusybox(string(cfg.architecture()))
	if err != nil {
		return cfg, err
	}
	path, err := cache.SmallRoot(busybox)
	if err != nil {
		return cfg, err
	}
	cfg.Image = path
	// After the configuration's own disks, which have the same names beside a shared root.
	return l.fromLower(cfg, image.Image{FSType: "erofs", Path: path}, len(cfg.Disks))
}
