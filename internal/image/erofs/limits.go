package erofs

import (
	"errors"
	"fmt"
)

// Limits bound what an archive may make of an image. A field that is 0 has the
// value of DefaultLimits.
type Limits struct {
	Entries    int   // Files and directories, also such as a later layer hides.
	Bytes      int64 // Of all files together, holes included.
	XattrBytes int64 // Of the attributes of all, names included.
	KeptBytes  int64 // Of memory, about: what must be known until the image is closed.
}

// DefaultLimits are several times what the largest images in use have. The collector
// lets memory grow to twice of what is kept.
var DefaultLimits = Limits{Entries: 1 << 20, Bytes: 128 << 30, XattrBytes: 64 << 20, KeptBytes: 64 << 20}

// What a file and a directory take beside their names: a node, its place in the map
// of its directory, and a directory's own map.
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
	maxTarget = 4095 // PATH_MAX without its end.
	maxPath   = 4096 // PATH_MAX
	// maxDepth is what a path of maxPath bytes can have: links lead deeper, and
	// nothing could reach a file there by one path.
	maxDepth = maxPath / 2
	// maxLinks is how many symbolic links a path may lead through, as in Linux.
	maxLinks = 40
)

// Sentinels that an [EntryError] may hold.
var (
	errLimit  = errors.New("larger than allowed")
	errName   = errors.New("not a path beneath the root")
	errRepeat = errors.New("a second entry of that name in one layer")
)

// An EntryError says which entry was refused, and by which rule.
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

// budget counts what is used of the limits.
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

// keepXattrs counts the attributes of a directory, which is written at the end.
func (b *budget) keepXattrs(all map[string]string) error {
	for name, value := range all {
		if err := b.keep(2*(len(name)+len(value)) + fileCost); err != nil { // Here, and among those that were seen.
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
