package boot

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/agentd-go/agentd/internal/guest/plan"
	"github.com/agentd-go/agentd/internal/guest/sys"
)

// explain adds a known remedy to an error.
func explain(err error) error {
	if hint := hint(err); hint != "" {
		return fmt.Errorf("%w (%s)", err, hint)
	}
	return err
}

func hint(err error) string {
	if mount, isMount := errors.AsType[*sys.MountError](err); isMount {
		return mountHint(err, mount)
	}
	switch {
	case errors.Is(err, sys.ErrNoDisk):
		return "the host has to attach it, and the kernel to have virtio_blk"
	case errors.Is(err, sys.ErrNoLink):
		return "the host has to attach it, and the kernel to have its driver (virtio_net)"
	case errors.Is(err, plan.ErrUserNotFound):
		return "the image's /etc/passwd has to have it, or the host to ask for another"
	case errors.Is(err, plan.ErrGroupNotFound):
		return "the image's /etc/group has to have it, or the host to ask for another"
	case errors.Is(err, syscall.ENOSPC):
		return "the file system is full"
	case errors.Is(err, syscall.EOPNOTSUPP) || errors.Is(err, syscall.EAFNOSUPPORT):
		return "the kernel may lack IPv6"
	case errors.Is(err, sys.ErrLink):
		return "remove the link from the image"
	case errors.Is(err, syscall.EISDIR):
		return "remove the directory from the image"
	}
	return ""
}

// mountHint returns the remedy for a mount that the kernel has refused.
func mountHint(err error, mount *sys.MountError) string {
	onDisk := strings.HasPrefix(mount.Source, "/dev/")
	switch {
	case errors.Is(err, syscall.ENOSPC):
		return "the file system is full"
	case errors.Is(err, sys.ErrLink):
		return "remove the link from the image, or mount at the place that it leads to"
	case errors.Is(err, syscall.ENODEV) && mount.Type != "virtiofs":
		return "the kernel needs " + mount.Type + " built in or its module"
	case errors.Is(err, syscall.EINVAL) && mount.Type == "virtiofs":
		return "the host may give no share with this tag"
	case errors.Is(err, syscall.EOPNOTSUPP) && onDisk:
		// The message of EROFS for a compression that it was built without (fs/erofs/decompressor.c).
		return "this kernel cannot read the disk's " + mount.Type + ": it lacks a feature that the disk has, for example a compression"
	case errors.Is(err, syscall.EINVAL) && onDisk:
		return "the disk may hold no " + mount.Type + ", a damaged one, or one with a feature that this kernel lacks" + pagesHint(mount.Type, syscall.Getpagesize())
	case errors.Is(err, syscall.EUCLEAN) && onDisk:
		return "the disk's " + mount.Type + " is damaged"
	case errors.Is(err, syscall.EROFS) && mount.Log == "":
		return "the root is read-only: the image has to bring the mount point"
	}
	return ""
}

// pagesHint names the feature that kernels with larger pages lack: blocks smaller than a
// page. EROFS has it since Linux 6.4, ext4 had it always.
func pagesHint(fstype string, size int) string {
	const usual = 4 << 10
	if size <= usual || fstype != "erofs" {
		return ""
	}
	return fmt.Sprintf("; its pages have %d KiB, and before Linux 6.4 it mounts only disks with blocks of that size", size>>10)
}
