package image

import (
	"errors"
	"strings"
	"syscall"

	"github.com/agentd-go/agentd/internal/image/erofs"
)

// readXattrs returns the extended attributes of a file that is no symbolic link. It
// leaves out attributes that this process may not read, and those that an image cannot
// have, such as the host file system's own.
func readXattrs(path string) (map[string]string, error) {
	list, err := xattr(func(b []byte) (int, error) { return syscall.Listxattr(path, b) })
	if err != nil || list == "" {
		return nil, err
	}
	all := map[string]string{}
	for name := range strings.SplitSeq(strings.TrimSuffix(list, "\x00"), "\x00") {
		if !erofs.Stores(name) {
			continue
		}
		value, err := xattr(func(b []byte) (int, error) { return syscall.Getxattr(path, name, b) })
		if errors.Is(err, syscall.ENODATA) {
			continue // Removed since it was listed.
		}
		if err != nil {
			return nil, err
		}
		all[name] = value
	}
	return all, nil
}

// maxXattr is the largest list and the largest value that Linux has
// (XATTR_LIST_MAX, XATTR_SIZE_MAX).
const maxXattr = 64 << 10

// xattr calls get with a small buffer first, then with one of the largest size.
func xattr(get func([]byte) (int, error)) (string, error) {
	for _, size := range []int{256, maxXattr} {
		b := make([]byte, size)
		n, err := get(b)
		switch {
		case err == nil:
			return string(b[:n]), nil
		case errors.Is(err, syscall.ENOTSUP):
			return "", nil
		case !errors.Is(err, syscall.ERANGE):
			return "", err
		}
	}
	return "", syscall.ERANGE
}

// deviceNumbers splits st_rdev; makedev(3).
func deviceNumbers(rdev uint64) (major, minor uint32) {
	major = uint32(rdev>>8&0xfff | rdev>>32&^0xfff)
	minor = uint32(rdev&0xff | rdev>>12&^0xff)
	return major, minor
}
