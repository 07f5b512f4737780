package erofs

import (
	"errors"
	"fmt"
)

// Limits bound the image that archives can make. A field of 0 has the value of
// DefaultLimits.
type Limits struct {
	Entries    int   // Files and directories, including those that a later layer hides.
	Bytes      int64 // Content of all files together, including holes.
	XattrBytes int64 // Attributes of all files together, including their names.
	KeptBytes  int64 // Approximate memory for data that is kept until the image is closed.
}

// DefaultLimits are several times the size of the largest images in use. Go's collector
// lets the heap grow to twice the kept bytes.
var DefaultLimits = Limits{Entries: 1 << 20, Bytes: 128 << 30, XattrBytes: 64 << 20, KeptBytes: 52 << 20}

// The memory of a file and of a directory besides their names: a node, its entry in the
// parent's map, and a directory's own map.
const (
	fileCost = 100
	dirCost  = 300
)

func (l Limits) withDefaults() Limits {
	if l.Entries == 0 {
		l.Entries = DefaultLimits.Entries
	}
	if l.Bytes == 0 {
		l.Bytes = DefaultLimits.Bytes
	}
	if l.XattrBytes == 0 {
		l.XattrBytes = DefaultLimits.XattrBytes
	}
	if l.KeptBytes == 0 {
		l.KeptBytes = DefaultLimits.KeptBytes
	}
	return l
}

const (
	maxName   = 255  // EROFS_NAME_LEN
	maxTarget = 4095 // PATH_MAX without the final NUL.
	maxPath   = 4096 // PATH_MAX
	// maxDepth is the most components that a path of maxPath bytes can have. Links
	// could lead deeper, but no single path would reach a file there.
	maxDepth = maxPath / 2
	// maxLinks is how many symbolic links one path may follow, as in Linux.
	maxLinks = 40
)

// Causes in an [EntryError].
var (
	errLimit  = errors.New("larger than allowed")
	errName   = errors.New("not a path beneath the root")
	errRepeat = errors.New("a second entry of that name in one layer")
)

// An EntryError names a refused entry and the rule that refuses it.
type EntryError struct {
	Name string
	Err  error
}

func (e *EntryError) Error() string { return fmt.Sprintf("entry %q: %v", clip(e.Name), e.Err) }

func (e *EntryError) Unwrap() error { return e.Err }

// clip shortens a name for a message.
func clip(name string) string {
	const most = 200
	if len(name) <= most {
		return name
	}
	return name[:most] + "…"
}

// budget counts the use of the limits.
type budget struct {
	limits     Limits
	entries    int
	bytes      int64
	xattrBytes int64
	kept       int64
}

// keep counts n bytes that stay in memory until the image is closed.
func (b *budget) keep(n int) error {
	if b.kept += int64(n); b.kept > b.limits.KeptBytes {
		return fmt.Errorf("%w: names, links and directories take more than %d bytes of memory", errLimit, b.limits.KeptBytes)
	}
	return nil
}

// keepXattrs counts the attributes of a directory, which stay in memory until Close.
func (b *budget) keepXattrs(all map[string]string) error {
	for name, value := range all {
		if err := b.keep(2*(len(name)+len(value)) + fileCost); err != nil { // Twice: in the node and in xattrs.seen.
			return err
		}
	}
	return nil
}

func (b *budget) entry() error {
	if b.entries++; b.entries > b.limits.Entries {
		return fmt.Errorf("%w: more than %d entries", errLimit, b.limits.Entries)
	}
	return nil
}

func (b *budget) data(n int64) error {
	if n < 0 || n > b.limits.Bytes-b.bytes {
		return fmt.Errorf("%w: %d bytes, and all files together may have %d", errLimit, n, b.limits.Bytes)
	}
	b.bytes += n
	return nil
}

func (b *budget) xattr(n int) error {
	if b.xattrBytes += int64(n); b.xattrBytes > b.limits.XattrBytes {
		return fmt.Errorf("%w: more than %d bytes of extended attributes", errLimit, b.limits.XattrBytes)
	}
	return nil
}
