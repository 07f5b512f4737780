package tree

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// An entry is a name in a directory with its type as the directory has it (DT_UNKNOWN if
// it has none).
type entry struct {
	name string
	kind byte
}

// read reads the names of an open directory, and sorts them: archives of a tree that does
// not change are equal, and one can begin after a name.
func (p *Packer) read(l *level) error {
	const names = 32 << 10
	buf := make([]byte, names)
	for {
		n, err := retry(func() (int, error) { return unix.Getdents(l.fd, buf) })
		if err != nil {
			return err
		}
		if n <= 0 {
			break
		}
		before := len(l.entries)
		l.entries = appendEntries(l.entries, buf[:n])
		for _, e := range l.entries[before:] {
			l.bytes += len(e.name) + entryCost
		}
		if p.names+l.bytes > maxNames {
			return unix.ENOMEM
		}
	}
	p.names += l.bytes
	slices.SortFunc(l.entries, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	return nil
}

// entryCost is what an entry takes besides its name.
const entryCost = 32

// appendEntries appends the entries of a buffer of getdents64(2): inode u64, offset u64,
// length u16, type u8, and the name with a NUL.
func appendEntries(all []entry, b []byte) []entry {
	const atLength, atKind, atName = 16, 18, 19
	for len(b) > atName {
		size := int(binary.NativeEndian.Uint16(b[atLength:]))
		if size <= atName || size > len(b) {
			break
		}
		name := b[atName:size]
		if i := bytes.IndexByte(name, 0); i >= 0 {
			name = name[:i]
		}
		if s := string(name); s != "." && s != ".." {
			all = append(all, entry{s, b[atKind]})
		}
		b = b[size:]
	}
	return all
}
