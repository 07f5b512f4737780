package pax

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// A Source gives a reader the bytes of an archive, piece by piece. A piece is valid until the
// next call. The error of the end is io.EOF.
type Source func() ([]byte, error)

// A Reader reads an archive.
type Reader struct {
	from    Source
	piece   []byte // Bytes of the source that were not used yet.
	scratch []byte // Bytes of several pieces.
	left    int64  // Bytes of the member's contents that were not read yet.
	pad     int64  // Bytes after them.
}

// NewReader returns a reader of a source's archive.
func NewReader(from Source) *Reader { return &Reader{from: from} }

// A FormatError says what is wrong with an archive.
type FormatError struct{ Why string }

func (e *FormatError) Error() string { return "archive: " + e.Why }

func malformed(format string, args ...any) error {
	return &FormatError{fmt.Sprintf(format, args...)}
}

// Next returns the header of the next member, after the rest of the contents of the last. At
// the end of the archive the error is io.EOF.
func (r *Reader) Next() (*Header, error) {
	if err := r.skip(r.left + r.pad); err != nil {
		return nil, err
	}
	r.left, r.pad = 0, 0
	head, err := r.block()
	if err != nil || head == nil {
		return nil, firstOf(err, io.EOF)
	}
	var records []Xattr
	if Kind(head[atKind]) == extended {
		if records, err = r.records(head); err != nil {
			return nil, err
		}
		if head, err = r.block(); err != nil || head == nil {
			return nil, firstOf(err, malformed("it ends after the records of a member"))
		}
	}
	return r.member(head, records)
}

func firstOf(err, other error) error {
	if err != nil {
		return err
	}
	return other
}

// block reads a header; nil is the end of the archive.
func (r *Reader) block() ([]byte, error) {
	b, err := r.take(block)
	if err != nil {
		return nil, err
	}
	if bytes.Equal(b, zeros[:block]) {
		if b, err = r.take(block); err != nil {
			return nil, err
		}
		if !bytes.Equal(b, zeros[:block]) {
			return nil, malformed("something follows one block of zeros")
		}
		return nil, nil //nolint:nilnil // The end is no header.
	}
	sum, err := octal(b, fieldChecksum)
	if err != nil || sum != checksum(b) {
		return nil, malformed("a header has a wrong checksum")
	}
	if string(b[atMagic:atMagic+len("ustar")]) != "ustar" {
		return nil, malformed("a header is not in the PAX form")
	}
	return b, nil
}

// member makes the header of a member from its block and its records.
func (r *Reader) member(b []byte, records []Xattr) (*Header, error) {
	h := &Header{Kind: Kind(b[atKind])}
	if h.Kind == 0 {
		h.Kind = Regular // As the oldest programs wrote it.
	}
	stored, err := h.decode(b)
	if err != nil {
		return nil, err
	}
	sparse := sparse{size: -1}
	for _, x := range records {
		if err := h.apply(x, &stored, &sparse); err != nil {
			return nil, err
		}
	}
	h.Name = strings.TrimRight(h.Name, "/")
	if h.Name == "" {
		h.Name = "."
	}
	r.left, r.pad = stored, padding(stored)
	if sparse.size >= 0 {
		if err := r.holes(h, &sparse); err != nil {
			return nil, err
		}
	} else {
		h.Size = stored
	}
	if err := h.check(); err != nil {
		return nil, malformed("member %.200q: %v", h.Name, err)
	}
	return h, nil
}

// decode takes the fields of a block.
func (h *Header) decode(b []byte) (stored int64, err error) {
	number := func(f span) (n int64) {
		if err == nil {
			n, err = octal(b, f)
		}
		return n
	}
	h.Name, h.Link = cstring(fieldName.of(b)), cstring(fieldLink.of(b))
	if prefix := cstring(fieldPrefix.of(b)); prefix != "" {
		h.Name = prefix + "/" + h.Name
	}
	h.Mode = uint32(number(fieldMode)) & 0o7777
	h.UID, h.GID = uint32(number(fieldUID)), uint32(number(fieldGID))
	stored, h.Sec = number(fieldSize), number(fieldMtime)
	if h.Kind == CharDevice || h.Kind == BlockDevice {
		h.Major, h.Minor = uint32(number(fieldMajor)), uint32(number(fieldMinor))
	}
	return stored, err
}

// sparse has the records of a file with holes; size is -1 for another.
type sparse struct {
	size         int64
	major, minor string
}

// apply takes one record. Records of unknown keys say nothing that a copy keeps.
func (h *Header) apply(x Xattr, stored *int64, s *sparse) (err error) {
	switch x.Name {
	case "path", "GNU.sparse.name":
		h.Name = x.Value
	case "linkpath":
		h.Link = x.Value
	case "uid":
		h.UID, err = decimal[uint32](x)
	case "gid":
		h.GID, err = decimal[uint32](x)
	case "size":
		*stored, err = decimal[int64](x)
	case "mtime":
		h.Sec, h.Nsec, err = parseTime(x)
	case "GNU.sparse.realsize":
		s.size, err = decimal[int64](x)
	case "GNU.sparse.major":
		s.major = x.Value
	case "GNU.sparse.minor":
		s.minor = x.Value
	default:
		if name, ok := strings.CutPrefix(x.Name, xattrKey); ok {
			h.Xattrs = append(h.Xattrs, Xattr{name, x.Value})
		} else if strings.HasPrefix(x.Name, OwnPrefix) {
			h.Records = append(h.Records, x)
		}
	}
	return err
}

// records reads the PAX records of the next member.
func (r *Reader) records(head []byte) (all []Xattr, err error) {
	size, err := octal(head, fieldSize)
	if err != nil {
		return nil, err
	}
	if size > MaxRecords {
		return nil, malformed("the records of a member have %d bytes, more than %d", size, MaxRecords)
	}
	b, err := r.take(int(size + padding(size)))
	if err != nil {
		return nil, err
	}
	for text := string(b[:size]); text != ""; {
		var x Xattr
		if x, text, err = cutRecord(text); err != nil {
			return nil, err
		}
		all = append(all, x)
	}
	return all, nil
}

func cutRecord(text string) (x Xattr, rest string, err error) {
	digits, _, _ := strings.Cut(text, " ")
	n, err := strconv.Atoi(digits)
	if err != nil || n <= len(digits)+1 || n > len(text) || text[n-1] != '\n' {
		return x, "", malformed("a record has a wrong length")
	}
	var ok bool
	x.Name, x.Value, ok = strings.Cut(text[len(digits)+1:n-1], "=")
	if !ok {
		return x, "", malformed("a record has no value")
	}
	return x, text[n:], nil
}

// holes reads the map before the contents of a file with holes.
func (r *Reader) holes(h *Header, s *sparse) error {
	if s.major != "1" || s.minor != "0" || h.Kind != Regular {
		return malformed("member %.200q: holes in an unknown form", h.Name)
	}
	h.Size = s.size
	m := holeMap{r: r}
	count, err := m.number()
	if err != nil || count > MaxExtents {
		return firstOf(err, malformed("member %.200q: %d pieces of data, more than %d", h.Name, count, MaxExtents))
	}
	h.Extents = make([]Extent, 0, min(count, block/4)) // The block may have fewer than it says.
	for range count {
		offset, err := m.number()
		if err != nil {
			return err
		}
		length, err := m.number()
		if err != nil {
			return err
		}
		h.Extents = append(h.Extents, Extent{offset, length})
	}
	if err := h.checkExtents(); err != nil || h.Stored() != r.left {
		return malformed("member %.200q: the map of its holes does not fit its size", h.Name)
	}
	return nil
}

// A holeMap reads the lines of a map of holes.
type holeMap struct {
	r    *Reader
	line []byte // The rest of the current block.
}

func (m *holeMap) number() (int64, error) {
	var n int64
	for digits := 0; ; digits++ {
		if len(m.line) == 0 {
			if m.r.left < block {
				return 0, malformed("a map of holes ends too early")
			}
			b, err := m.r.take(block)
			if err != nil {
				return 0, err
			}
			m.r.left -= block
			m.line = bytes.Clone(b)
		}
		c := m.line[0]
		m.line = m.line[1:]
		const most = 18 // Digits of a number that an int64 surely has.
		if c == '\n' && digits > 0 {
			return n, nil
		}
		if c < '0' || c > '9' || digits == most {
			return 0, malformed("a map of holes has a wrong number")
		}
		n = 10*n + int64(c-'0')
	}
}

// Data returns the next bytes of the member's contents, which are valid until the next call
// of a method. After the last the error is io.EOF. Holes have no bytes.
func (r *Reader) Data() ([]byte, error) {
	if r.left == 0 {
		return nil, io.EOF
	}
	if err := r.fill(); err != nil {
		return nil, err
	}
	n := min(int64(len(r.piece)), r.left)
	b := r.piece[:n]
	r.piece, r.left = r.piece[n:], r.left-n
	return b, nil
}

// Drain reads the source to its end: programs fill the last record of an archive.
func (r *Reader) Drain() error {
	for {
		r.piece = nil
		if err := r.fill(); errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// fill gets bytes from the source if there are none.
func (r *Reader) fill() (err error) {
	for len(r.piece) == 0 && err == nil {
		r.piece, err = r.from()
	}
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF // The end of an archive is said in it.
	}
	return err
}

// take returns the next n bytes, valid until the next call of a method.
func (r *Reader) take(n int) ([]byte, error) {
	if len(r.piece) >= n {
		b := r.piece[:n]
		r.piece = r.piece[n:]
		return b, nil
	}
	r.scratch = r.scratch[:0]
	for len(r.scratch) < n {
		if err := r.fill(); err != nil {
			return nil, err
		}
		part := r.piece[:min(len(r.piece), n-len(r.scratch))]
		r.scratch = append(r.scratch, part...)
		r.piece = r.piece[len(part):]
	}
	return r.scratch, nil
}

func (r *Reader) skip(n int64) error {
	for n > 0 {
		if err := r.fill(); err != nil {
			return err
		}
		part := min(int64(len(r.piece)), n)
		r.piece, n = r.piece[part:], n-part
	}
	return nil
}

func cstring(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

// octal reads a field of octal digits.
func octal(b []byte, f span) (n int64, err error) {
	digits := bytes.Trim(f.of(b), " \x00")
	for _, c := range digits {
		if c < '0' || c > '7' {
			return 0, malformed("a header has a number with the byte %q", c)
		}
		n = n<<3 | int64(c-'0')
	}
	return n, nil
}

func decimal[T uint32 | int64](x Xattr) (T, error) {
	const most = 18
	n, err := strconv.ParseUint(x.Value, 10, 64)
	if err != nil || len(x.Value) > most || uint64(T(n)) != n {
		return 0, malformed("the record %s has the value %.40q", x.Name, x.Value)
	}
	return T(n), nil
}

// parseTime reads a time of PAX: seconds with a fraction, which is cut after nanoseconds.
func parseTime(x Xattr) (sec, nsec int64, err error) {
	whole, fraction, _ := strings.Cut(x.Value, ".")
	sec, err = strconv.ParseInt(whole, 10, 64)
	const digits, most = 9, 1 << 53
	if err == nil && fraction != "" {
		fraction = (fraction + strings.Repeat("0", digits))[:digits]
		var n uint64
		n, err = strconv.ParseUint(fraction, 10, 32)
		nsec = int64(n)
	}
	if err != nil || sec > most || sec < -most {
		return 0, 0, malformed("the record %s has the value %.40q", x.Name, x.Value)
	}
	if strings.HasPrefix(whole, "-") && nsec > 0 {
		sec, nsec = sec-1, 1e9-nsec
	}
	return sec, nsec, nil
}
