package sys

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrNoDisk is returned by FindDisk and OpenDisk if there is no such disk. The disk may
// appear later.
var ErrNoDisk = errors.New("no such disk")

// FindDisk returns the device of the virtio disk with the serial, for example
// /dev/vdb.
func FindDisk(serial string) (string, error) {
	// Only virtio disks have the file.
	return findDevice("/sys/block", "serial", serial, ErrNoDisk)
}

// findDevice returns the device of class whose attribute has the value. Devices without
// the attribute are passed over. The error wraps none and lists the values that exist.
func findDevice(class, attribute, value string, none error) (string, error) {
	entries, err := list(class)
	if err != nil {
		return "", fmt.Errorf("%w: %s %q: %w", none, attribute, value, err)
	}
	var seen []string
	for _, name := range entries {
		found, err := attributeOf(class + "/" + name + "/" + attribute)
		if err != nil {
			continue
		}
		if found == value {
			return "/dev/" + name, nil
		}
		seen = append(seen, found)
	}
	return "", fmt.Errorf("%w: %s %q, there are %q", none, attribute, value, seen)
}

// ProbeDisk makes the kernel forget a virtio disk, such as /dev/vdc, and find it again: its
// size and its partitions. The disk keeps its name, the first one free. Nobody may have it
// open.
func ProbeDisk(device string) error {
	const driver = "/sys/bus/virtio/drivers/virtio_blk/"
	name, ok := strings.CutPrefix(device, "/dev/")
	if !ok || strings.Contains(name, "/") {
		return fmt.Errorf("disk %q: want a name in /dev", device)
	}
	link := "/sys/block/" + name + "/device"
	bus, err := readLink(link)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoDisk, err)
	}
	bus = bus[strings.LastIndexByte(bus, '/')+1:]
	if err := errors.Join(put(driver+"unbind", bus), put(driver+"bind", bus)); err != nil {
		return err
	}
	if again, err := readLink(link); err != nil || !strings.HasSuffix(again, "/"+bus) {
		return fmt.Errorf("%w: %s has another name now: %w", ErrNoDisk, device, err)
	}
	return nil
}

// A Disk is a block device, open for reading.
type Disk struct{ fd int }

// OpenDisk opens a block device.
func OpenDisk(device string) (*Disk, error) {
	fd, err := retry(func() (int, error) {
		return unix.Open(device, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	})
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ENODEV) {
		return nil, fmt.Errorf("%w: %s: %w", ErrNoDisk, device, err)
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: device, Err: err}
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFBLK {
		_ = unix.Close(fd)
		return nil, &fs.PathError{Op: "open", Path: device, Err: errors.Join(err, unix.ENOTBLK)}
	}
	return &Disk{fd}, nil
}

// ReadOnly reports whether the disk itself refuses to be written to.
func (d *Disk) ReadOnly() (bool, error) {
	v, err := unix.IoctlGetInt(d.fd, unix.BLKROGET)
	return v != 0, os.NewSyscallError("BLKROGET", err)
}

// ReadAt reads from the disk.
func (d *Disk) ReadAt(p []byte, at int64) (n int, err error) {
	for n < len(p) {
		more, err := retry(func() (int, error) { return unix.Pread(d.fd, p[n:], at+int64(n)) })
		if err != nil {
			return n, os.NewSyscallError("pread", err)
		}
		if more == 0 {
			return n, io.EOF
		}
		n += more
	}
	return n, nil
}

// Close closes the disk.
func (d *Disk) Close() error { return os.NewSyscallError("close", unix.Close(d.fd)) }
