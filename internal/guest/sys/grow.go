package sys

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A Volume is the file system of a mount, and the disk below it.
type Volume struct {
	fd     int
	number string // MAJOR:MINOR of the disk.
}

// OpenVolume opens the file system whose mount a root is.
func (r *Root) OpenVolume() (*Volume, error) {
	fd, err := retry(func() (int, error) { return unix.Openat(r.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return nil, os.NewSyscallError("open", err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("fstat", err)
	}
	return &Volume{fd, fmt.Sprintf("%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev))}, nil
}

// Close closes it.
func (v *Volume) Close() error { return os.NewSyscallError("close", unix.Close(v.fd)) }

// IsExt4 reports whether it is of that type.
func (v *Volume) IsExt4() bool {
	var st unix.Statfs_t
	return again(func() error { return unix.Fstatfs(v.fd, &st) }) == nil && st.Type == unix.EXT4_SUPER_MAGIC
}

// DiskBytes is how large the disk is now.
func (v *Volume) DiskBytes() (uint64, error) {
	const sector = 512 // Of the kernel's own, whatever the disk's is.
	s, err := attributeOf("/sys/dev/block/" + v.number + "/size")
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(s, 10, 64)
	return n * sector, err
}

// ReadDisk reads from the disk, as the file system has it in memory.
func (v *Volume) ReadDisk(p []byte, at int64) error {
	event, err := os.ReadFile("/sys/dev/block/" + v.number + "/uevent")
	if err != nil {
		return err
	}
	_, name, _ := strings.Cut(string(event), "DEVNAME=")
	name, _, _ = strings.Cut(name, "\n")
	disk, err := OpenDisk("/dev/" + name)
	if err != nil {
		return err
	}
	defer func() { _ = disk.Close() }() // Read only: nothing to lose.
	var st unix.Stat_t
	if err := unix.Fstat(disk.fd, &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	if got := fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev)); got != v.number {
		return fmt.Errorf("/dev/%s is disk %s, not %s: %w", name, got, v.number, ErrNoDisk)
	}
	_, err = disk.ReadAt(p, at)
	return err
}

// Resize makes an ext4 file system that many blocks long while it is mounted, and writes
// that to the disk. It waits for both.
func (v *Volume) Resize(blocks uint64) error {
	if err := resizeExt4(v.fd, blocks); err != nil {
		if errors.Is(err, unix.EPERM) {
			return errors.New("online ext4 growth requires agent CAP_SYS_RESOURCE")
		}
		return os.NewSyscallError("EXT4_IOC_RESIZE_FS", err)
	}
	return os.NewSyscallError("syncfs", again(func() error { return unix.Syncfs(v.fd) }))
}
