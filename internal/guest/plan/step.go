package plan

import (
	"net/netip"
	"path"
	"strings"
)

// Step is one step of a boot, as a value without effects. The set is closed: a switch
// over the types of this file handles every plan.
//
//sumtype:decl
type Step interface {
	// Name is the short stable name for errors and timings.
	Name() string
	// String is the name followed by what the step does, on one line.
	String() string
	sealed()
}

// Limits sets the resource limits that every process of the machine inherits.
type Limits struct{ Limits []Limit }

// Mounts makes the essential mounts, then the links that lead into them.
type Mounts struct {
	List  []Mount
	Links []Link
}

// Share mounts the directory shared with the host.
type Share struct{ Mount }

// BlockRoot puts a root together at [NewRoot] from block devices, moves [ShareDir] and
// the essential mounts into it, and makes it the root. Exactly one of the fields is set.
type BlockRoot struct {
	DiskImage *Mount
	OCI       *OCI
}

// OCI is a root of two layers: a read-only lower and a writable upper.
type OCI struct {
	Lower, Upper, Overlay Mount
	// Dirs are made on the upper before the overlay: its upper and its work
	// directory.
	Dirs []string
	// Metrics says that the path of the upper is registered with the kernel.
	Metrics bool
}

// Handshake tells the host which user commands run as, and waits until the host
// confirms that its file systems fit that user. It comes before all of the user's
// mounts, because the host maps their owners to that user. User is a spec for
// [ResolveUser], and empty for root.
type Handshake struct{ User string }

// DirMount mounts a directory of the host: Source is the virtiofs tag.
type DirMount struct{ Mount }

// FileMount shows one file of the host at Path: the directory with the virtiofs tag Tag
// is mounted at a staging directory, and its entry Filename is bound to Path.
type FileMount struct {
	Tag, Filename, Path string
	Flags               Flags
}

// Staging returns the staging directory, at which the tag is mounted in between.
func (s FileMount) Staging() string { return path.Join(FileMountsDir, s.Tag) }

// DiskMount mounts the block device with the serial ID. An empty Type means that the
// file system has to be probed.
type DiskMount struct {
	ID, Path, Type string
	Flags          Flags
}

// Data returns the mount data for the file system type that was given or probed. A
// read-only ext4 image cannot replay its journal, so it is mounted without it.
func (s DiskMount) Data(fstype string) string {
	if fstype == "ext4" && s.Flags.Has(ReadOnly) {
		return "noload"
	}
	return ""
}

// TmpfsMount mounts a file system in memory.
type TmpfsMount struct{ Mount }

// Hostname sets the kernel's host name, and writes it to /etc/hostname with a newline.
type Hostname struct{ Host string }

// HostsFile writes /etc/hosts. Content is the whole file.
type HostsFile struct{ Content string }

// TempDirs makes directories that everybody can write to, mode 1777.
type TempDirs struct{ Paths []string }

// Loopback brings up lo with its two addresses.
type Loopback struct{}

// Interface brings up the network interface of the machine.
type Interface struct {
	Device     string
	MAC        MAC
	MTU        uint16
	IPv4, IPv6 Address
}

// Address is the configuration of one address family of an interface. The zero value
// means that the family is not configured. DNS is optional.
type Address struct {
	Prefix       netip.Prefix
	Gateway, DNS netip.Addr
}

// Configured reports whether there is an address.
func (a Address) Configured() bool { return a.Prefix.IsValid() }

// String prints addr/bits via gateway.
func (a Address) String() string {
	if !a.Configured() {
		return "none"
	}
	return a.Prefix.String() + " via " + a.Gateway.String()
}

// MAC is an Ethernet address.
type MAC [6]byte

// String prints six octets in hexadecimal, joined by colons.
func (m MAC) String() string {
	const hex = "0123456789abcdef"
	var b strings.Builder
	for i, o := range m {
		if i > 0 {
			b.WriteByte(':')
		}
		b.WriteByte(hex[o>>4])
		b.WriteByte(hex[o&15])
	}
	return b.String()
}

// Resolver writes /etc/resolv.conf. Content is the whole file.
type Resolver struct{ Content string }

// Trust adds the certificate authorities in the share, if there are any.
type Trust struct{}

// ProfileBlock makes login shells find [ScriptsDir].
type ProfileBlock struct{}

// RunDirs makes directories for files that live as long as the machine.
type RunDirs struct{ Paths []string }

// Seal makes the root read-only. It follows all steps that write to the root.
type Seal struct{}

// AutoInit is the word with which a host asks the guest to look for an init.
const AutoInit = "auto"

// Handover gives PID 1 to another init. Env is set over [Commands].Env by [Overlay].
// Init is an absolute path, or [AutoInit]. An empty Cwd keeps the working directory.
type Handover struct {
	Init string
	Args []string
	Cwd  string
	Env  []string
}

// Candidates returns the paths to try, in order. The init is the first one that is a
// regular file with an execute bit.
func (s Handover) Candidates() []string {
	if s.Init == AutoInit {
		return []string{"/sbin/init", "/lib/systemd/systemd", "/usr/lib/systemd/systemd"}
	}
	return []string{s.Init}
}

func (Limits) sealed()       {}
func (Mounts) sealed()       {}
func (Share) sealed()        {}
func (BlockRoot) sealed()    {}
func (Handshake) sealed()    {}
func (DirMount) sealed()     {}
func (FileMount) sealed()    {}
func (DiskMount) sealed()    {}
func (TmpfsMount) sealed()   {}
func (Hostname) sealed()     {}
func (HostsFile) sealed()    {}
func (TempDirs) sealed()     {}
func (Loopback) sealed()     {}
func (Interface) sealed()    {}
func (Resolver) sealed()     {}
func (Trust) sealed()        {}
func (ProfileBlock) sealed() {}
func (RunDirs) sealed()      {}
func (Seal) sealed()         {}
func (Handover) sealed()     {}

// maxComponent is NAME_MAX: the kernel refuses a longer name in any path.
const maxComponent = 255

// maxPath is PATH_MAX less its NUL: the kernel refuses a longer path.
const maxPath = 4095

// The texts contain the values of maxComponent and maxPath as digits, so that a
// program's start need not format them.
const (
	ruleComponent = "must not have a component of more than 255 bytes"
	rulePath      = "must not be longer than 4095 bytes"
)
