package plan

import (
	"cmp"
	"maps"
	"path"
	"slices"
	"strings"
)

// kind is the kind of a user's mount.
type kind uint8

const (
	kindDir kind = iota
	kindFile
	kindDisk
	kindTmpfs
)

// String names the kind for errors.
func (k kind) String() string {
	return [...]string{"directory", "file", "disk", "tmpfs"}[k]
}

// userMount is one of the user's mounts, from either source. The kind decides which
// fields are used.
type userMount struct {
	kind     kind
	field    string // for errors of the whole list
	source   string // tag or disk id
	filename string
	given    string // the path as written
	path     string // the canonical path
	fstype   string
	sizeMiB  *uint32
	mode     *uint32
	flags    Flags
}

// setPath keeps the path as written, for errors, and its canonical form.
func (m *userMount) setPath(given string) {
	m.given, m.path = given, path.Clean(given)
}

// checkSource is the rule for a tag or an id. File mounts' tags and disks' ids become
// components of paths in the guest.
func (m *userMount) checkSource() (rule string) {
	switch m.kind {
	case kindDir:
		return checkText(m.source)
	case kindFile:
		return checkComponent(m.source)
	case kindDisk:
		return firstRule(checkComponent(m.source), when(len(m.source) > maxSerial, ruleSerial))
	case kindTmpfs:
	}
	return ""
}

// maxSerial is the length of a virtio disk's serial (VIRTIO_BLK_ID_BYTES, virtio 1.2,
// section 5.2.6). No disk has a longer one.
const maxSerial = 20

const ruleSerial = "must not be longer than 20 bytes, as serials of disks are"

// checkFilename is the rule for the entry that a file mount shows: it must be in the
// directory itself, and not below or outside it.
func (m *userMount) checkFilename() (rule string) {
	if m.kind != kindFile {
		return ""
	}
	return checkComponent(m.filename)
}

// step turns the mount into its step. In restricted machines the user's mounts are
// nosuid and nodev.
func (m userMount) step(restricted bool) Step {
	f := m.flags | RelAtime
	if restricted {
		f |= NoSUID | NoDev
	}
	switch m.kind {
	case kindDir:
		return DirMount{Mount{Source: m.source, Target: m.path, Type: "virtiofs", Flags: f}}
	case kindFile:
		return FileMount{Tag: m.source, Filename: m.filename, Path: m.path, Flags: f}
	case kindDisk:
		return DiskMount{ID: m.source, Path: m.path, Type: m.fstype, Flags: f}
	case kindTmpfs:
		return TmpfsMount{Mount{Source: "tmpfs", Target: m.path, Type: "tmpfs", Flags: f, Data: m.data()}}
	}
	return nil
}

// data returns the mount data of a tmpfs. The two directories of temporary files are
// writable for every user. The kernel uses the mode's twelve permission bits and
// ignores the rest, so the plan shows only these.
func (m userMount) data() string {
	mode := uint32(0o755)
	if m.path == "/tmp" || m.path == "/var/tmp" {
		mode = 0o1777
	}
	if m.mode != nil {
		mode = *m.mode & 0o7777
	}
	return tmpfsData(m.sizeMiB, mode)
}

// reserved are the trees that belong to the kernel and to the host. A mount
// over one of them would take the machine away from its agent.
var reserved = [...]string{"/proc", "/sys", "/dev", ShareDir}

// sharedMemory is the one directory in them that users may mount over, because they
// choose its size.
const sharedMemory = "/dev/shm"

const (
	ruleDotDot   = `must not have a ".." component`
	ruleRoot     = "must not be the root directory"
	ruleReserved = "must not be at or below /proc, /sys, /dev (except /dev/shm) or /.msb"
)

// checkTarget is the rule for the target of a user's mount. It refuses "..", so that the
// canonical form names the same file.
func checkTarget(p string) string {
	if rule := checkAbsolute(p); rule != "" {
		return rule
	}
	// The length comes first, so that the other checks need not read a long path.
	if len(p) > maxPath {
		return rulePath
	}
	canonical, components := path.Clean(p), strings.Split(p, "/")
	return firstRule(
		when(slices.Contains(components, ".."), ruleDotDot),
		when(canonical == "/", ruleRoot),
		when(canonical != sharedMemory && slices.ContainsFunc(reserved[:], func(r string) bool { return isBelow(canonical, r) }), ruleReserved),
		when(slices.ContainsFunc(components, longComponent), ruleComponent),
	)
}

func longComponent(c string) bool { return len(c) > maxComponent }

// isBelow reports whether p is dir or below it.
func isBelow(p, dir string) bool {
	return p == dir || strings.HasPrefix(p, dir+"/")
}

// maxMounts bounds the mounts of one machine. A kernel allows 100000 in a namespace
// (fs.mount-max), and a boot with so many would take too long. A virtual machine has at
// most hundreds of devices, so 4096 leaves room for many tmpfs.
const maxMounts = 4096

const (
	ruleMounts    = "machine must not have more than 4096 mounts"
	ruleDuplicate = "must not be the target of two mounts"
	ruleFileAbove = "file must not lie above the target of another mount"
)

// sortMounts sorts all mounts by depth and then by name, so that every parent comes
// before its children. It returns the first mount that does not fit such an order, and
// the rule that it breaks.
func sortMounts(mounts []userMount) (bad *userMount, rule string) {
	targets := make(map[string]int, len(mounts)) // Where each is in mounts.
	for i := range mounts {
		if _, taken := targets[mounts[i].path]; taken {
			return &mounts[i], ruleDuplicate
		}
		targets[mounts[i].path] = i
	}
	sorted := slices.Sorted(maps.Keys(targets))
	for i := range mounts {
		if m := &mounts[i]; m.kind == kindFile && hasBelow(sorted, m.path) {
			return m, ruleFileAbove
		}
	}
	slices.SortFunc(sorted, func(a, b string) int {
		return cmp.Or(cmp.Compare(strings.Count(a, "/"), strings.Count(b, "/")), strings.Compare(a, b))
	})
	unsorted := slices.Clone(mounts)
	for i, path := range sorted {
		mounts[i] = unsorted[targets[path]]
	}
	return nil, ""
}

// hasBelow reports whether a sorted list has a path below dir. Such paths begin with
// dir and a slash, so the first of them is where dir and a slash would be inserted.
func hasBelow(sorted []string, dir string) bool {
	i, _ := slices.BinarySearch(sorted, dir+"/")
	return i < len(sorted) && strings.HasPrefix(sorted[i], dir+"/")
}
