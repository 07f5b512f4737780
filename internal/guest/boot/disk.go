package boot

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/agentd-go/agentd/internal/guest/plan"
	"github.com/agentd-go/agentd/internal/guest/sys"
)

// The kernel finds a device before PID 1 starts or when its driver's module is loaded.
// But a host may plug it in during the boot. Hosts give a boot 60 s at least. A device
// needs far less than 5 s of them, also on a busy host, and the rest is left for the boot.
// One look takes some microseconds.
const (
	deviceDeadline = 5 * time.Second
	deviceInterval = 10 * time.Millisecond
)

// await calls find until it succeeds, or fails with another error than missing.
func await[T any](find func() (T, error), missing error) (T, error) {
	v, err := find()
	if !errors.Is(err, missing) {
		return v, err
	}
	deadline := time.After(deviceDeadline)
	tick := time.NewTicker(deviceInterval)
	defer tick.Stop()
	for {
		if v, err = find(); !errors.Is(err, missing) {
			return v, err
		}
		select {
		case <-tick.C:
		case <-deadline:
			return v, fmt.Errorf("after %v: %w", deviceDeadline, err)
		}
	}
}

// diskMount mounts the disk that has the serial.
func (m *Machine) diskMount(s plan.DiskMount) error {
	device, err := await(func() (string, error) { return sys.FindDisk(s.ID) }, sys.ErrNoDisk)
	if err != nil {
		return fmt.Errorf("mount of a disk on %s: %w", s.Path, err)
	}
	return m.mountDisk(plan.Mount{Source: device, Target: s.Path, Type: s.Type, Flags: s.Flags})
}

// mountDisk mounts the file system of a disk, read-only if the disk is. It probes the type
// if the mount has none. Down leaves the disk clean.
func (m *Machine) mountDisk(mount plan.Mount) error {
	disk, types, readOnly, err := lookAt(mount)
	if err != nil {
		return fmt.Errorf("mount of %s on %s: %w", mount.Source, mount.Target, err)
	}
	// Read only: nothing to lose. Keep it open until the mount: the last close of a disk
	// drops the kernel's cache of it.
	defer func() { _ = disk.Close() }()
	if readOnly {
		mount.Flags |= plan.ReadOnly
	}
	var failed []error
	for _, mount.Type = range types {
		mount.Data = plan.DiskMount{Flags: mount.Flags}.Data(mount.Type)
		err := m.root.Mount(kernelMount(mount))
		if err == nil {
			return m.pin(mount)
		}
		failed = append(failed, err)
	}
	return errors.Join(failed...)
}

// pin remembers a mounted disk.
func (m *Machine) pin(mount plan.Mount) error {
	u := undo{target: mount.Target}
	defer func() { m.undo = append(m.undo, u) }()
	if mount.Flags.Has(plan.ReadOnly) {
		return nil
	}
	var err error
	u.pin, err = m.root.Open(mount.Target)
	return err
}

// lookAt waits for a disk, opens it and returns the types to try.
func lookAt(mount plan.Mount) (disk *sys.Disk, types []string, readOnly bool, err error) {
	disk, err = await(func() (*sys.Disk, error) { return sys.OpenDisk(mount.Source) }, sys.ErrNoDisk)
	if err != nil {
		return nil, nil, false, err
	}
	readOnly, err = disk.ReadOnly()
	types = []string{mount.Type}
	if err == nil && mount.Type == "" {
		types, err = probe(disk)
	}
	if err != nil {
		_ = disk.Close()
		return nil, nil, false, err
	}
	return disk, types, readOnly, nil
}

// signatures are the magic numbers of the common file systems and their places (each
// driver's on-disk superblock; include/uapi/linux/magic.h).
var signatures = []struct {
	fstype string
	at     int
	magic  string
}{
	{"ext4", 1024 + 56, "\x53\xef"},
	{"erofs", 1024, "\xe2\xe1\xf5\xe0"},
	{"xfs", 0, "XFSB"},
	{"btrfs", 65536 + 64, "_BHRfS_M"},
	{"squashfs", 0, "hsqs"},
	{"f2fs", 1024, "\x10\x20\xf5\xf2"},
	{"iso9660", 32768 + 1, "CD001"},
}

// probe returns the types that a disk may have. A disk with a known signature has one, so
// that the kernel's error for this type is the one that is reported. Without a signature
// all types of the kernel are tried.
func probe(disk io.ReaderAt) ([]string, error) {
	const head = 68 << 10 // Up to the last of the signatures.
	b := make([]byte, head)
	n, err := disk.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	for _, s := range signatures {
		if n > s.at && bytes.HasPrefix(b[s.at:n], []byte(s.magic)) {
			return []string{s.fstype}, nil
		}
	}
	known, err := os.ReadFile("/proc/filesystems")
	if err != nil {
		return nil, err
	}
	types := diskTypes(string(known))
	if len(types) == 0 {
		return nil, errors.New("no file system that the kernel knows lives on disks")
	}
	return types, nil
}

// diskTypes returns the types in a /proc/filesystems that need a device: the lines without
// a word before the type.
func diskTypes(list string) []string {
	var types []string
	for line := range strings.Lines(list) {
		if fstype, ok := strings.CutPrefix(line, "\t"); ok {
			types = append(types, strings.TrimSpace(fstype))
		}
	}
	return slices.Clip(types)
}
