package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/agentd-go/agentd/internal/vmm"
	"github.com/agentd-go/agentd/wire"
)

// A Mount shows a directory or one file of the host in the guest.
//
// A file is shown by a hard link, so both sides write to the same file until one side
// replaces it by another. If no link is possible (another file system, another owner),
// the file can only be shown read-only, as a copy made at the start.
type Mount struct {
	Source   string `json:"source"`
	Target   string `json:"target"` // Absolute, in the guest.
	ReadOnly bool   `json:"readonly,omitempty"`
	SetID    bool   `json:"suid,omitempty"` // As in [Share].
}

// A Tmpfs is a file system in the guest's memory.
type Tmpfs struct {
	Target   string `json:"target"`
	SizeMiB  int    `json:"size_mib,omitempty"` // 0 means half of the memory.
	Mode     uint32 `json:"mode,omitempty"`     // 0 means the agent's default.
	ReadOnly bool   `json:"readonly,omitempty"`
	NoExec   bool   `json:"noexec,omitempty"`
	NoSuid   bool   `json:"nosuid,omitempty"`
	NoDev    bool   `json:"nodev,omitempty"`
}

// networkCard is the guest's network card on QEMU's user network.
const networkCard = "eth0"

func userNetwork() *wire.Network {
	const mtu, prefix = 1500, 24
	return &wire.Network{
		Interface: networkCard, MAC: vmm.NetworkMAC, MTU: mtu,
		IPv4: &wire.IPv4{
			Address: [4]byte{10, 0, 2, 15}, PrefixLen: prefix,
			Gateway: [4]byte{10, 0, 2, 2}, DNS: &[4]byte{10, 0, 2, 3},
		},
	}
}

// checkMounts refuses mounts that the configuration cannot express, and missing
// sources.
func (c Config) checkMounts() error {
	mounted := slices.ContainsFunc(c.Disks, func(d Disk) bool { return d.Target != "" })
	if c.Configuration == ByEnvironment && (mounted || len(c.Mounts)+len(c.Tmpfs) > 0 || c.Network) {
		return errors.New("mounts and a network are not configured by environment")
	}
	for _, m := range c.Mounts {
		info, err := os.Stat(m.Source)
		if err != nil {
			return fmt.Errorf("mount on %s: %w", m.Target, err)
		}
		if !info.IsDir() && !info.Mode().IsRegular() {
			return fmt.Errorf("mount on %s: %s is neither a directory nor a file", m.Target, m.Source)
		}
	}
	return nil
}

func mountTag(i int) string { return "mount" + strconv.Itoa(i) }

// diskSerial returns the serial by which the guest finds a disk that it mounts.
func diskSerial(i int, d Disk) string {
	if d.Serial == "" && d.Target != "" {
		return "disk" + strconv.Itoa(i)
	}
	return d.Serial
}

// mount shares the sources of the mounts.
func (l *layout) mount(cfg Config) error {
	for i, m := range cfg.Mounts {
		source, err := filepath.EvalSymlinks(m.Source)
		if err != nil {
			return err
		}
		if source, err = filepath.Abs(source); err != nil {
			return err
		}
		if !isDir(source) {
			if source, err = l.lone(i, source, m.ReadOnly); err != nil {
				return err
			}
		}
		l.machine.Shares = append(l.machine.Shares, vmm.Share{Tag: mountTag(i), Dir: source, ReadOnly: m.ReadOnly, SetID: m.SetID})
	}
	return nil
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// lone makes a directory with only one file in it.
func (l *layout) lone(i int, file string, readOnly bool) (dir string, err error) {
	dir = filepath.Join(l.dir, mountTag(i))
	if err := os.RemoveAll(dir); err != nil { // The directory of an earlier life.
		return "", err
	}
	if err := os.Mkdir(dir, 0o755); err != nil { //nolint:gosec // The guest's users read it.
		return "", err
	}
	there := filepath.Join(dir, filepath.Base(file))
	err = os.Link(file, there)
	if err == nil || !readOnly {
		if err != nil {
			err = fmt.Errorf("show %s in the machine: %w; mount its directory, or the file read-only", file, err)
		}
		return dir, err
	}
	return dir, copyFile(there, file)
}

func copyFile(to, from string) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, b, info.Mode().Perm()) //nolint:gosec // In the machine's own directory.
}

// mounts adds the mounts to the message.
func (c Config) mounts(b *wire.Bootstrap) {
	for i, m := range c.Mounts {
		flags := wire.MountFlags{ReadOnly: m.ReadOnly}
		if isDir(m.Source) {
			b.DirMounts = append(b.DirMounts, wire.DirMount{Tag: mountTag(i), GuestPath: m.Target, Flags: flags})
			continue
		}
		b.FileMounts = append(b.FileMounts, wire.FileMount{
			Tag: mountTag(i), Filename: lastName(m.Source), GuestPath: m.Target, Flags: flags,
		})
	}
	for i, d := range c.Disks {
		if d.Target != "" {
			b.DiskMounts = append(b.DiskMounts, wire.DiskMount{
				ID: diskSerial(i, d), GuestPath: d.Target, FSType: optional(d.FSType), Flags: wire.MountFlags{ReadOnly: d.ReadOnly},
			})
		}
	}
	for _, t := range c.Tmpfs {
		b.TmpfsMounts = append(b.TmpfsMounts, wire.TmpfsMount{
			Path: t.Target, SizeMiB: positive(t.SizeMiB), Mode: positive(int(t.Mode)),
			Flags: wire.MountFlags{ReadOnly: t.ReadOnly, NoExec: t.NoExec, NoSuid: t.NoSuid, NoDev: t.NoDev},
		})
	}
	if c.Network {
		b.Network = userNetwork()
	}
}

// lastName returns the base name of the file that a path leads to.
func lastName(path string) string {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	return filepath.Base(path)
}

func positive(n int) *uint32 {
	if n <= 0 {
		return nil
	}
	u := uint32(n)
	return &u
}

// makeMountPoints makes the mount points in a private root that the guest cannot write
// to.
func (l *layout) makeMountPoints(cfg Config, root string) error {
	var b wire.Bootstrap
	cfg.mounts(&b)
	dirs := []string{"/dev", "/proc", "/sys", "/tmp", "/run", "/.msb"}
	for _, m := range b.DirMounts {
		dirs = append(dirs, m.GuestPath)
	}
	for _, m := range b.DiskMounts {
		dirs = append(dirs, m.GuestPath)
	}
	for _, m := range b.TmpfsMounts {
		dirs = append(dirs, m.Path)
	}
	inside, err := os.OpenRoot(root)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, inside.Close()) }()
	for _, dir := range dirs {
		if err := inside.MkdirAll(filepath.Clean("/" + dir)[1:], 0o755); err != nil {
			return err
		}
	}
	for _, m := range b.FileMounts {
		if err := makeEmptyFile(inside, filepath.Clean("/" + m.GuestPath)[1:]); err != nil {
			return err
		}
	}
	return err
}

func makeEmptyFile(root *os.Root, name string) error {
	if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := root.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return f.Close()
}
