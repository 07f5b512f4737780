package plan

import (
	"path"
	"slices"
	"strings"

	"github.com/agentd-go/agentd/wire/bootenv"
)

// Flags are the mount flags that a plan uses. They are not the kernel's numbers, so
// that this package builds on every system.
type Flags uint8

// The flags, in the order in which they print.
const (
	ReadOnly Flags = 1 << iota
	NoExec
	NoSUID
	NoDev
	RelAtime
)

// flagNames are the words of mount(8), by bit.
var flagNames = [...]string{"ro", "noexec", "nosuid", "nodev", "relatime"}

// Has reports whether every flag of f2 is set in f.
func (f Flags) Has(f2 Flags) bool { return f&f2 == f2 }

// String prints the words of mount(8) joined by commas, "rw" for none.
func (f Flags) String() string {
	var words []string
	for i, name := range flagNames {
		if f.Has(1 << i) {
			words = append(words, name)
		}
	}
	if words == nil {
		return "rw"
	}
	return strings.Join(words, ",")
}

// Mount is one mount(2) call. Source, Target, Type and Data are its arguments. An empty
// Type means that the file system has to be probed.
type Mount struct {
	Source, Target, Type string
	Flags                Flags
	Data                 string
	// Optional is true if the machine works without the mount.
	Optional bool
}

// String prints source, target, type, flags and data on one line.
func (m Mount) String() string {
	words := []string{quote(m.Source), quote(m.Target), orWord(m.Type, "probe"), m.Flags.String()}
	if m.Data != "" {
		words = append(words, quote(m.Data))
	}
	if m.Optional {
		words = append(words, "optional")
	}
	return strings.Join(words, " ")
}

// Link is a symbolic link. It is made only if Path does not exist.
type Link struct {
	Path, Target string
}

// String prints path -> target.
func (l Link) String() string { return quote(l.Path) + " -> " + quote(l.Target) }

// Paths and names in the guest that both sides of the protocol know.
const (
	// ShareTag is the virtiofs tag of the directory shared with the host.
	ShareTag = "msb_runtime"
	// ShareDir is where the share is mounted.
	ShareDir = "/.msb"
	// ScriptsDir holds the named scripts of the host. It is the first in every PATH.
	ScriptsDir = ShareDir + "/scripts"
	// FileMountsDir holds the staging directories of file mounts while these are made.
	// It is removed afterwards.
	FileMountsDir = ShareDir + "/file-mounts"
	// NewRoot is the directory in which a root on a block device is put together.
	NewRoot = "/newroot"

	lowerDir = ShareDir + "/rootfs/lower"
	upperDir = ShareDir + "/rootfs/upperfs"
	// SysDir is where the kernel shows its devices and knobs.
	SysDir = "/sys"
	// MetricsPath is the knob of the kernel that publishes how full the upper
	// is. It takes one path, once.
	MetricsPath = SysDir + "/kernel/msb_metrics/upper_path"
)

// kernelFlags are the flags of file systems that are interfaces of the kernel, without
// programs and devices.
const kernelFlags = NoDev | NoExec | NoSUID | RelAtime

// essential returns the mounts that everything else needs, parents first. Each call
// returns a new slice, because a plan belongs to its caller.
func essential() Mounts {
	return Mounts{
		List: []Mount{
			{Source: "devtmpfs", Target: "/dev", Type: "devtmpfs", Flags: RelAtime},
			{Source: "proc", Target: "/proc", Type: "proc", Flags: kernelFlags},
			{Source: "sysfs", Target: "/sys", Type: "sysfs", Flags: kernelFlags},
			// Nothing here needs control groups, and a kernel may lack them.
			{Source: "cgroup2", Target: "/sys/fs/cgroup", Type: "cgroup2", Flags: kernelFlags, Optional: true},
			// Group 5 is tty in every distribution. Without the data a terminal belongs
			// to root alone, and its user cannot open it by its name.
			{
				Source: "devpts", Target: "/dev/pts", Type: "devpts",
				Flags: NoExec | NoSUID | RelAtime, Data: "gid=5,mode=620,ptmxmode=666",
			},
			{Source: "tmpfs", Target: "/dev/shm", Type: "tmpfs", Flags: NoExec | NoSUID | RelAtime},
		},
		Links: []Link{
			{Path: "/dev/fd", Target: "/proc/self/fd"},
			{Path: "/dev/stdin", Target: "/proc/self/fd/0"},
			{Path: "/dev/stdout", Target: "/proc/self/fd/1"},
			{Path: "/dev/stderr", Target: "/proc/self/fd/2"},
		},
	}
}

// KernelTrees returns those of the essential mounts that are below no other.
func KernelTrees() []Mount {
	return slices.DeleteFunc(essential().List, func(m Mount) bool { return path.Dir(m.Target) != "/" })
}

// EarlyMounts returns the two essential mounts that make the port visible. A
// machine that is configured over the port needs them before it has a plan;
// the plan names them again, and finds them in place.
func EarlyMounts() []Mount {
	return slices.DeleteFunc(essential().List, func(m Mount) bool {
		return m.Target != "/dev" && m.Target != "/sys"
	})
}

// share returns the mount of the directory shared with the host. The scripts in
// it run as programs; nothing in it is a device or changes its user.
func share() Share {
	return Share{Mount{Source: ShareTag, Target: ShareDir, Type: "virtiofs", Flags: NoSUID | NoDev}}
}

// memoryShareMiB is as much as hosts of generation 7 let a guest write to a share.
const memoryShareMiB = 16

// host takes from the variables what is a matter of the machine, whichever source
// configures it.
func (c *config) host(environ []string) (rejected *Error) {
	if c.share, rejected = shareOf(environ); rejected != nil {
		return rejected
	}
	switch value := lookup(environ, bootenv.Seal); value {
	case "":
	case bootenv.SealRoot:
		c.sealed = true
	default:
		return &Error{Field: bootenv.Seal, Value: value, Rule: "must be " + bootenv.SealRoot + " or absent"}
	}
	return c.naming.read(environ)
}

// shareOf returns the share of a machine with these variables.
func shareOf(environ []string) (Share, *Error) {
	switch value := lookup(environ, bootenv.Share); value {
	case "":
		return share(), nil
	case bootenv.ShareInMemory:
		size := uint32(memoryShareMiB)
		return Share{Mount{
			Source: "tmpfs", Target: ShareDir, Type: "tmpfs", Flags: NoSUID | NoDev, Data: tmpfsData(&size, 0o755),
		}}, nil
	default:
		return Share{}, &Error{Field: bootenv.Share, Value: value, Rule: "must be " + bootenv.ShareInMemory + " or absent"}
	}
}
