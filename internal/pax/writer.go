package pax

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// AppendHeader appends the blocks that precede the contents of a member: the PAX records if
// it needs any, the header, and the map of a file with holes. After them come the
// [Header.Stored] bytes of the contents, and then [Padding].
func AppendHeader(b []byte, h *Header) ([]byte, error) {
	if err := h.check(); err != nil {
		return b, fmt.Errorf("archive member %.200q: %w", h.Name, err)
	}
	var holes []byte
	stored := h.Stored()
	if h.Extents != nil {
		holes = appendMap(nil, h.Extents)
		stored += int64(len(holes))
	}
	records := h.appendRecords(nil, stored)
	if len(records) > MaxRecords {
		return b, fmt.Errorf("archive member %.200q: %w", h.Name, errRecords)
	}
	if len(records) > 0 {
		b = appendBlock(b, &Header{Name: "././@PaxHeader", Kind: extended, Mode: 0o644}, int64(len(records)))
		b = appendPadded(b, records)
	}
	b = appendBlock(b, h, stored)
	return append(b, holes...), nil
}

// Padding returns the bytes that follow a member's contents.
func Padding(h *Header) []byte { return zeros[:padding(h.Stored())] }

// End returns the end of an archive.
func End() []byte { return zeros[:] }

var zeros [2 * block]byte

// extended is the kind of a member that has PAX records of the next one.
const extended Kind = 'x'

var (
	errName    = errors.New("the name is empty, too long, or has a NUL")
	errLink    = errors.New("the target of the link is empty, too long, or has a NUL")
	errSize    = errors.New("the size is negative, or of a kind without contents")
	errExtents = errors.New("the pieces of the file are not in order, too many, or outside of its size")
	errRecords = fmt.Errorf("its records, such as extended attributes, have more than %d bytes", MaxRecords)
	errKind    = errors.New("unknown kind")
)

// check refuses a header that no archive can have. Both ends use it.
func (h *Header) check() error {
	switch {
	case !h.Kind.Known():
		return errKind
	case badText(h.Name):
		return errName
	case (h.Kind == Symlink || h.Kind == HardLink) && badText(h.Link):
		return errLink
	case h.Size < 0 || h.Size > 0 && h.Kind != Regular:
		return errSize
	}
	return h.checkExtents()
}

func badText(s string) bool {
	return s == "" || len(s) > MaxName || strings.IndexByte(s, 0) >= 0
}

func (h *Header) checkExtents() error {
	if h.Extents != nil && h.Kind != Regular || len(h.Extents) > MaxExtents {
		return errExtents
	}
	end := int64(0)
	for _, e := range h.Extents {
		if e.Offset < end || e.Length < 0 || e.Length > h.Size-e.Offset {
			return errExtents
		}
		end = e.Offset + e.Length
	}
	return nil
}

// appendRecords appends the PAX records of what a ustar header cannot say.
func (h *Header) appendRecords(b []byte, stored int64) []byte {
	name := h.slashed()
	if h.Extents != nil {
		b = appendRecord(b, "GNU.sparse.major", "1")
		b = appendRecord(b, "GNU.sparse.minor", "0")
		b = appendRecord(b, "GNU.sparse.name", name)
		b = appendRecord(b, "GNU.sparse.realsize", strconv.FormatInt(h.Size, 10))
	} else if len(name) > fieldName.size {
		b = appendRecord(b, "path", name)
	}
	if len(h.Link) > fieldLink.size {
		b = appendRecord(b, "linkpath", h.Link)
	}
	b = appendLarge(b, "uid", int64(h.UID), fieldUID)
	b = appendLarge(b, "gid", int64(h.GID), fieldGID)
	b = appendLarge(b, "size", stored, fieldSize)
	if h.Nsec != 0 || !fits(h.Sec, fieldMtime) {
		b = appendRecord(b, "mtime", formatTime(h.Sec, h.Nsec))
	}
	for _, x := range h.Xattrs {
		b = appendRecord(b, xattrKey+x.Name, x.Value)
	}
	for _, x := range h.Records {
		b = appendRecord(b, x.Name, x.Value)
	}
	return b
}

// slashed is the name as archives have it: that of a directory ends in a slash.
func (h *Header) slashed() string {
	if h.Kind == Directory {
		return h.Name + "/"
	}
	return h.Name
}

func appendLarge(b []byte, key string, n int64, f span) []byte {
	if fits(n, f) {
		return b
	}
	return appendRecord(b, key, strconv.FormatInt(n, 10))
}

// fits reports whether a number has few enough octal digits for a field.
func fits(n int64, f span) bool { return n >= 0 && n < 1<<(3*(f.size-1)) }

// appendRecord appends a record "LENGTH KEY=VALUE\n"; the length counts its own digits.
func appendRecord(b []byte, key, value string) []byte {
	n := len(key) + len(value) + len(" =\n")
	size := n + len(strconv.Itoa(n))
	if len(strconv.Itoa(size)) > len(strconv.Itoa(n)) {
		size++
	}
	b = strconv.AppendInt(b, int64(size), 10)
	b = append(append(append(b, ' '), key...), '=')
	return append(append(b, value...), '\n')
}

// formatTime writes a time as PAX does. Before 1970 the fraction counts downward too.
func formatTime(sec, nsec int64) string {
	sign := ""
	if sec < 0 {
		sign = "-"
		if sec = -sec; nsec > 0 {
			sec, nsec = sec-1, 1e9-nsec
		}
	}
	s := sign + strconv.FormatInt(sec, 10)
	if nsec == 0 {
		return s
	}
	const digits = 9
	fraction := strconv.FormatInt(nsec, 10)
	return s + "." + strings.TrimRight(strings.Repeat("0", digits-len(fraction))+fraction, "0")
}

// appendMap appends the map of a file with holes: how many pieces it has, and each, as lines
// of decimal digits.
func appendMap(b []byte, all []Extent) []byte {
	line := func(n int64) { b = append(strconv.AppendInt(b, n, 10), '\n') }
	line(int64(len(all)))
	for _, e := range all {
		line(e.Offset)
		line(e.Length)
	}
	return append(b, zeros[:padding(int64(len(b)))]...)
}

func appendPadded(b, data []byte) []byte {
	b = append(b, data...)
	return append(b, zeros[:padding(int64(len(data)))]...)
}

// appendBlock appends a ustar header. What a record says is cut or 0 in it.
func appendBlock(b []byte, h *Header, stored int64) []byte {
	at := len(b)
	b = append(b, zeros[:block]...)
	head := b[at:]
	copy(fieldName.of(head), h.shortName())
	putOctal(fieldMode.of(head), int64(h.Mode&0o7777))
	putOctal(fieldUID.of(head), orZero(int64(h.UID), fieldUID))
	putOctal(fieldGID.of(head), orZero(int64(h.GID), fieldGID))
	putOctal(fieldSize.of(head), orZero(stored, fieldSize))
	putOctal(fieldMtime.of(head), orZero(h.Sec, fieldMtime))
	head[atKind] = byte(h.Kind)
	copy(fieldLink.of(head), h.Link)
	copy(head[atMagic:], magic)
	putOctal(fieldMajor.of(head), int64(h.Major))
	putOctal(fieldMinor.of(head), int64(h.Minor))
	sum := fieldChecksum.of(head)
	putOctal(sum[:len(sum)-1], checksum(head))
	sum[len(sum)-1] = ' '
	return b
}

// shortName is the name in the header of a member. A program that does not know holes sees
// that the file with them is none of this name.
func (h *Header) shortName() string {
	if h.Extents != nil {
		return "GNUSparseFile.0/" + h.Name
	}
	return h.slashed()
}

// orZero returns n if the field can hold it, else 0: a PAX record has the number then.
func orZero(n int64, f span) int64 {
	if fits(n, f) {
		return n
	}
	return 0
}

// putOctal writes a number with a NUL at its end.
func putOctal(field []byte, n int64) {
	for i := len(field) - 2; i >= 0; i-- {
		field[i] = '0' + byte(n&7)
		n >>= 3
	}
}
