package tree

import (
	"errors"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/agentd-go/agentd/internal/pax"
)

// A packedFile is a file whose contents are being read into the archive.
type packedFile struct {
	header *pax.Header
	fd     int
	rest   []pax.Extent // What of it is still to be read.
	short  bool         // It ended too early, and zeros are read in place of the rest.
}

// regular packs a regular file. It was described already if st is not nil.
func (p *Packer) regular(dir int, base, name string, st *unix.Stat_t) bool {
	if p.how.Bare && !p.how.Xattrs {
		return p.bare(dir, base, name, st)
	}
	fd, err := openat(dir, base, unix.O_RDONLY, 0)
	var now unix.Stat_t
	if err == nil {
		err = again(func() error { return unix.Fstat(fd, &now) })
	}
	if err == nil && now.Mode&unix.S_IFMT != unix.S_IFREG {
		err = errChanged
	}
	if err != nil {
		if fd >= 0 {
			closeFD(fd)
		}
		p.problem("open", name, err)
		return false
	}
	return p.opened(fd, name, &now)
}

// errChanged says that a file was replaced by something else while it was packed.
var errChanged = errors.New("was replaced meanwhile")

// bare packs the description of a file.
func (p *Packer) bare(dir int, base, name string, st *unix.Stat_t) bool {
	if st == nil {
		st = new(unix.Stat_t)
		if err := again(func() error { return unix.Fstatat(dir, base, st, unix.AT_SYMLINK_NOFOLLOW) }); err != nil {
			p.problem("stat", name, err)
			return false
		}
	}
	h := headerOf(name, st, pax.Regular)
	h.Records = sizeRecord(st.Size)
	return p.emit(h)
}

func sizeRecord(size int64) []pax.Xattr {
	return []pax.Xattr{{Name: SizeRecord, Value: strconv.FormatInt(size, 10)}}
}

// opened packs an open file, and closes it unless its contents are to be read.
func (p *Packer) opened(fd int, name string, st *unix.Stat_t) bool {
	h := headerOf(name, st, pax.Regular)
	if first, ok := p.first(st, name); ok {
		h.Kind, h.Link = pax.HardLink, first
	} else if p.how.Xattrs {
		p.xattrs(h, fd, "")
	}
	switch {
	case h.Kind == pax.HardLink:
	case p.how.Bare:
		h.Records = sizeRecord(st.Size)
	case st.Size < small:
		defer closeFD(fd)
		return p.whole(h, fd, st.Size)
	default:
		h.Size = st.Size
		h.Extents = extents(fd, st)
		if p.emit(h) {
			p.file = &packedFile{header: h, fd: fd, rest: pieces(h)}
			return true
		}
		closeFD(fd)
		return false
	}
	closeFD(fd)
	return p.emit(h)
}

// first returns the name under which a file with several names was packed already.
func (p *Packer) first(st *unix.Stat_t, name string) (string, bool) {
	if !p.how.Links || st.Nlink < 2 {
		return "", false
	}
	id := node{st.Dev, st.Ino}
	first, ok := p.seen[id]
	if !ok && len(p.seen) < maxLinks {
		p.seen[id] = name
	}
	return first, ok
}

// whole packs a small file with its contents. Its header has as many bytes as were read:
// the file may have changed, and files of /proc and /sys have other sizes than they say.
func (p *Packer) whole(h *pax.Header, fd int, size int64) bool {
	n := 0
	for n < len(p.buf) {
		m, err := retry(func() (int, error) { return unix.Read(fd, p.buf[n:]) })
		if err != nil {
			p.problem("read", h.Name, err)
			return false
		}
		n += m
		if m == 0 || size > 0 && int64(n) == size { // Ask no regular file for its end.
			break
		}
	}
	h.Size = int64(n)
	if !p.emit(h) {
		return false
	}
	p.out = append(append(p.out, p.buf[:n]...), pax.Padding(h)...)
	p.Report.Bytes += uint64(n)
	return true
}

// pieces are the extents of a file, or all of it.
func pieces(h *pax.Header) []pax.Extent {
	if h.Extents == nil {
		return []pax.Extent{{Offset: 0, Length: h.Size}}
	}
	return h.Extents
}

// extents finds the data of a file with holes. It returns nil for a file without.
func extents(fd int, st *unix.Stat_t) []pax.Extent {
	const unit = 512 // Of st_blocks (stat(2)).
	if st.Blocks*unit >= st.Size {
		return nil
	}
	all := []pax.Extent{}
	for at := int64(0); at < st.Size; {
		start, err := seek(fd, at, unix.SEEK_DATA)
		if err == unix.ENXIO { //nolint:errorlint // A bare number: no data follows.
			return all
		}
		if err != nil {
			return nil // The file system does not report holes.
		}
		end, err := seek(fd, start, unix.SEEK_HOLE)
		if err != nil {
			return nil
		}
		if end = min(end, st.Size); len(all) == pax.MaxExtents-1 {
			end = st.Size // The last piece has the rest, with its holes.
		}
		if start >= end { // It was cut meanwhile.
			return all
		}
		all = append(all, pax.Extent{Offset: start, Length: end - start})
		at = end
	}
	return all
}

func seek(fd int, at int64, whence int) (int64, error) {
	return retry(func() (int64, error) { return unix.Seek(fd, at, whence) })
}

// contents reads the current file into b.
func (p *Packer) contents(b []byte) int {
	f := p.file
	for len(f.rest) > 0 && f.rest[0].Length == 0 {
		f.rest = f.rest[1:]
	}
	if len(f.rest) == 0 {
		p.out = append(p.out[:0], pax.Padding(f.header)...)
		p.closeFile()
		return 0
	}
	e := &f.rest[0]
	b = b[:min(int64(len(b)), e.Length)]
	n := p.piece(b, e.Offset)
	e.Offset, e.Length = e.Offset+int64(n), e.Length-int64(n)
	return n
}

// piece reads from an offset of the current file. The header has said how much comes, so
// zeros stand for what is missing.
func (p *Packer) piece(b []byte, offset int64) int {
	if f := p.file; !f.short {
		n, err := retry(func() (int, error) { return unix.Pread(f.fd, b, offset) })
		if n > 0 && err == nil {
			p.Report.Bytes += uint64(n)
			return n
		}
		f.short = true
		if err == nil {
			err = errShort
		}
		p.problem("read", f.header.Name, err)
	}
	clear(b)
	return len(b)
}

// errShort says that a file became shorter while it was read.
var errShort = errors.New("became shorter meanwhile; zeros are in place of the rest")

func (p *Packer) closeFile() {
	if p.file != nil {
		closeFD(p.file.fd)
		p.file = nil
	}
}
