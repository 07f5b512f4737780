package erofs

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

const (
	xattrHeader = 12 // Of an inode's attributes: filter, number of shared ones, reserved.
	xattrEntry  = 4  // Of one attribute: length of the name, index of the prefix, length of the value.
	maxShared   = 255
	// An inode's attributes are counted in units of 4 bytes, in 16 bits.
	maxXattrs = xattrHeader + 4*(math.MaxUint16-1)
)

// prefixes are the beginnings of names that have an index. The ACLs come first:
// they are whole names.
var prefixes = []struct {
	prefix string
	index  byte
}{
	{"system.posix_acl_access", 2},
	{"system.posix_acl_default", 3},
	{"user.", 1},
	{"trusted.", 4},
	{"security.", 6},
}

// overlayXattrs are what the guest's overlay keeps its own marks in: in a lower they
// would hide files, or lead to others.
const overlayXattrs = "trusted.overlay."

// Stores tells whether an image has attributes of that name: of a class that EROFS
// has, and none that the guest's overlay would take for its own.
func Stores(name string) bool {
	_, err := appendXattr(nil, name, "")
	return err == nil && !strings.HasPrefix(name, overlayXattrs)
}

// appendXattr appends one attribute as it is on disk.
func appendXattr(b []byte, name, value string) ([]byte, error) {
	for _, p := range prefixes {
		rest, ok := strings.CutPrefix(name, p.prefix)
		if !ok || rest != "" && !strings.HasSuffix(p.prefix, ".") {
			continue
		}
		if len(name) > maxName || len(value) > math.MaxUint16 {
			return nil, fmt.Errorf("attribute %q with %d bytes: %w", clip(name), len(value), errLimit)
		}
		if rest == "" && strings.HasSuffix(p.prefix, ".") || strings.Contains(rest, "\x00") {
			break
		}
		b = append(b, byte(len(rest)), p.index, byte(len(value)), byte(len(value)>>8))
		b = append(append(b, rest...), value...)
		return append(b, zeros[:roundUp(len(b), 4)-len(b)]...), nil
	}
	return nil, fmt.Errorf("attribute %q: EROFS has user., trusted., security. and system.posix_acl_ only", clip(name))
}

// xattrs holds what is known of attributes so far. One that was seen before is
// shared from then on: it stands once in the image, and inodes name its place.
type xattrs struct {
	space *space
	keep  func(n int) error // Counts memory.
	base  int64             // The block that places are counted from; -1 until there is one.
	seen  map[string]uint32 // Encoded attributes; 0 is one that is not in the shared area.
}

// encode returns the attributes of an inode as they stand after it, or nil. With
// force all are shared, however rare: the root's inode has little room.
func (x *xattrs) encode(all map[string]string, force bool) ([]byte, error) {
	if len(all) == 0 {
		return nil, nil
	}
	var ids []uint32
	var inline []byte
	for _, name := range slices.Sorted(maps.Keys(all)) {
		b, err := appendXattr(nil, name, all[name])
		if err != nil {
			return nil, err
		}
		id, seen := x.seen[string(b)]
		if (seen || force) && id == 0 && len(ids) < maxShared {
			id = x.share(b)
		}
		if id != 0 && len(ids) < maxShared {
			ids = append(ids, id)
			continue
		}
		if !seen {
			if err := x.keep(len(b) + fileCost); err != nil {
				return nil, err
			}
		}
		x.seen[string(b)] = id
		inline = append(inline, b...)
	}
	body := make([]byte, xattrHeader, xattrHeader+4*len(ids)+len(inline))
	body[4] = byte(len(ids))
	for _, id := range ids {
		body = le.AppendUint32(body, id)
	}
	if body = append(body, inline...); len(body) > maxXattrs {
		return nil, fmt.Errorf("%d bytes of extended attributes: %w: an inode has %d", len(body), errLimit, maxXattrs)
	}
	return body, nil
}

// share gives an attribute a place for all, or returns 0 where the 32 bits of a
// place do not reach.
func (x *xattrs) share(b []byte) (id uint32) {
	at := x.space.reserve(len(b))
	if x.base < 0 {
		x.base = at/blockSize - 1 // One block earlier, so that no place is 0.
	}
	place := (at - x.base*blockSize) / 4
	if place > math.MaxUint32 {
		return 0
	}
	x.space.put(b, at)
	x.seen[string(b)] = uint32(place)
	return uint32(place)
}

// xattrUnits is the length of attributes as an inode counts it.
func xattrUnits(body []byte) uint16 {
	if len(body) == 0 {
		return 0
	}
	return uint16(1 + (len(body)-xattrHeader)/4)
}
