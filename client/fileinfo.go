package client

import (
	"io/fs"
	"math"
	"strings"
	"time"

	"github.com/agentd-go/agentd/wire"
)

// The bits of st_mode (inode(7)), which are the guest's and Linux's.
const (
	modeType    = 0o170000
	modeSocket  = 0o140000
	modeLink    = 0o120000
	modeRegular = 0o100000
	modeBlock   = 0o060000
	modeDir     = 0o040000
	modeChar    = 0o020000
	modeFIFO    = 0o010000
	modeSetuid  = 0o4000
	modeSetgid  = 0o2000
	modeSticky  = 0o1000
)

// modeBits is a mode as chmod(2) takes it.
func modeBits(mode fs.FileMode) uint32 {
	bits := uint32(mode.Perm())
	for _, b := range []struct {
		mode fs.FileMode
		bit  uint32
	}{{fs.ModeSetuid, modeSetuid}, {fs.ModeSetgid, modeSetgid}, {fs.ModeSticky, modeSticky}} {
		if mode&b.mode != 0 {
			bits |= b.bit
		}
	}
	return bits
}

// fileMode is the mode that bits of st_mode stand for.
func fileMode(bits uint32) fs.FileMode {
	mode := fs.FileMode(bits & uint32(fs.ModePerm))
	switch bits & modeType {
	case modeRegular:
	case modeDir:
		mode |= fs.ModeDir
	case modeLink:
		mode |= fs.ModeSymlink
	case modeFIFO:
		mode |= fs.ModeNamedPipe
	case modeSocket:
		mode |= fs.ModeSocket
	case modeChar:
		mode |= fs.ModeDevice | fs.ModeCharDevice
	case modeBlock:
		mode |= fs.ModeDevice
	default: // A name in a listing whose file nobody could ask about.
		mode |= fs.ModeIrregular
	}
	for _, b := range []struct {
		bit  uint32
		mode fs.FileMode
	}{{modeSetuid, fs.ModeSetuid}, {modeSetgid, fs.ModeSetgid}, {modeSticky, fs.ModeSticky}} {
		if bits&b.bit != 0 {
			mode |= b.mode
		}
	}
	return mode
}

// fileInfo is an fs.FileInfo and an fs.DirEntry.
type fileInfo struct {
	name  string
	entry wire.FSEntry
}

// Size is not negative, whatever the guest says.
func (i *fileInfo) Size() int64 { return int64(min(i.entry.Size, math.MaxInt64)) }

func (i *fileInfo) Name() string               { return i.name }
func (i *fileInfo) Mode() fs.FileMode          { return fileMode(i.entry.Mode) }
func (i *fileInfo) Type() fs.FileMode          { return i.Mode().Type() }
func (i *fileInfo) IsDir() bool                { return i.Mode().IsDir() }
func (i *fileInfo) Info() (fs.FileInfo, error) { return i, nil }

// A Stat is what the guest says of a file beyond what an [fs.FileInfo] has. The Sys of
// one that a client returns is a *Stat, as that of package os is a *syscall.Stat_t.
//
// The last fields need [ExtensionFiles], and are zero without it.
type Stat struct {
	UID, GID uint32    // Numbers of the guest.
	Atime    time.Time // Zero if the guest does not know it; in seconds without ExtensionFiles.

	Ctime         time.Time // When the description or the content changed last.
	Device, Inode uint64    // Equal for all names of one file.
	Links         uint64    // How many names the file has.
	Blocks        uint64    // Of 512 bytes: what the file takes on its disk.
}

// String shows the entry as package fs does.
func (i *fileInfo) String() string { return fs.FormatDirEntry(i) }

// ModTime is zero if the guest does not know it, and in seconds without ExtensionFiles.
func (i *fileInfo) ModTime() time.Time {
	return unixTime(i.entry.Mtime, i.exact()[wire.ExactMtimeNsec])
}

// Sys returns a *Stat.
func (i *fileInfo) Sys() any {
	x := i.exact()
	s := &Stat{
		UID: i.entry.UID, GID: i.entry.GID, Atime: unixTime(i.entry.Atime, x[wire.ExactAtimeNsec]),
		Device: x[wire.ExactDevice], Inode: x[wire.ExactInode], Links: x[wire.ExactLinks], Blocks: x[wire.ExactBlocks],
	}
	if len(i.entry.Exact) > 0 {
		changed := int64(x[wire.ExactCtime])
		s.Ctime = unixTime(&changed, x[wire.ExactCtimeNsec])
	}
	return s
}

// exact has the numbers of an exact description; those that the agent does not say are 0.
func (i *fileInfo) exact() (x [wire.ExactNumbers]uint64) {
	copy(x[:], i.entry.Exact)
	return x
}

func unixTime(seconds *int64, nanoseconds uint64) time.Time {
	if seconds == nil {
		return time.Time{}
	}
	return time.Unix(*seconds, int64(min(nanoseconds, 999_999_999)))
}

// newEntries takes the names out of the paths of a listing.
func newEntries(entries []wire.FSEntry) []*fileInfo {
	all := make([]*fileInfo, len(entries))
	for i, e := range entries {
		all[i] = &fileInfo{name: e.Path[strings.LastIndexByte(e.Path, '/')+1:], entry: e}
	}
	return all
}
