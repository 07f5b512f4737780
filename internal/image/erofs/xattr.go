package erofs

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

const (
	xattrHeader = 12 // Header of an inode's attributes: filter, number of shared ones, reserved.
	xattrEntry  = 4  // Header of one attribute: length of the name, index of the prefix, length of the value.
	maxShared   = 255
	// An inode's attributes are counted in units of 4 bytes, in 16 bits.
	maxXattrs = xattrHeader + 4*(math.MaxUint16-1)
)

// prefixes are the name prefixes that have an index. The ACLs come first, because they
// are whole names.
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

// overlayXattrs is the prefix of overlayfs's own marks. In a lower they would hide or
// redirect files.
const overlayXattrs = "trusted.overlay."

// Stores reports whether an image can have an attribute of that name: EROFS has its
// class, and the guest's overlayfs does not use it for itself.
func Stores(name string) bool {
	_, err := encodeXattr(name, "")
	return err == nil && !strings.HasPrefix(name, overlayXattrs)
}

// encodeXattr returns one attribute in its form on disk.
func encodeXattr(name, value string) ([]byte, error) {
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
		b := []byte{byte(len(rest)), p.index, byte(len(value)), byte(len(value) >> 8)}
		b = append(append(b, rest...), value...)
		return append(b, zeros[:roundUp(len(b), 4)-len(b)]...), nil
	}
	return nil, fmt.Errorf("attribute %q: EROFS has user., trusted., security. and system.posix_acl_ only", clip(name))
}

// xattrs finds attributes that repeat. From its second use on an attribute is shared:
// it is stored once in the image, and inodes refer to its place.
type xattrs struct {
	space *space
	keep  func(n int) error // Counts memory.
	base  int64             // The block that places are counted from; -1 while there is none.
	seen  map[string]uint32 // Place of each encoded attribute; 0 if it is not shared yet.
}

// encode returns the attributes of an inode in their form on disk, or nil. With force
// all are shared, because the root's inode has little room.
func (x *xattrs) encode(all map[string]string, force bool) ([]byte, error) {
	if len(all) == 0 {
		return nil, nil
	}
	var ids []uint32
	var inline []byte
	for _, name := range slices.Sorted(maps.Keys(all)) {
		b, err := encodeXattr(name, all[name])
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

// share stores an attribute in the shared area and returns its place, or 0 if the place
// exceeds 32 bits.
func (x *xattrs) share(b []byte) (id uint32) {
	at := x.space.reserve(len(b))
	if x.base < 0 {
		x.base = at/blockSize - 1 // One block earlier, because place 0 means that there is none.
	}
	place := (at - x.base*blockSize) / 4
	if place > math.MaxUint32 {
		return 0
	}
	x.space.put(b, at)
	x.seen[string(b)] = uint32(place)
	return uint32(place)
}

// xattrUnits returns the length of attributes in the units of an inode.
func xattrUnits(body []byte) uint16 {
	if len(body) == 0 {
		return 0
	}
	return uint16(1 + (len(body)-xattrHeader)/4)
}
