package erofs

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// memory is an image in memory.
type memory struct{ b []byte }

func (m *memory) WriteAt(b []byte, at int64) (int, error) {
	if end := int(at) + len(b); end > len(m.b) {
		m.b = append(m.b, make([]byte, end-len(m.b))...)
	}
	return copy(m.b[at:], b), nil
}

func (m *memory) Truncate(size int64) error {
	m.b = slices.Grow(m.b, int(size)-min(int(size), len(m.b)))[:size]
	return nil
}

// A found holds a reader's view of a file, like stat(2).
type found struct {
	inode
	nid    uint64
	data   string // Content, or target.
	xattrs map[string]string
}

func (f found) String() string {
	s := fmt.Sprintf("%06o %d:%d %d.%d links=%d", f.mode, f.uid, f.gid, f.mtime, f.nanosecond, f.links)
	switch f.mode & typeMask {
	case typeRegular, typeSymlink:
		s += fmt.Sprintf(" %d %q", f.size, f.data[:min(len(f.data), 40)])
	case typeChar, typeBlock:
		s += fmt.Sprintf(" dev=%#x", f.inode.data)
	}
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(f.xattrs)) {
		fmt.Fprintf(&b, " %s=%q", k, clip(f.xattrs[k]))
	}
	return s + b.String()
}

// A reader reads an image as strictly as the kernel does, independently of what
// the writer remembers.
type reader struct {
	b     []byte
	xattr int64 // Offset that shared attributes count from.
	all   map[string]found
}

// read returns every file of an image by its path.
func read(b []byte) (map[string]found, error) {
	if len(b)%blockSize != 0 || len(b) < blockSize || le.Uint32(b[superOffset:]) != superMagic {
		return nil, errors.New("no super block")
	}
	s := b[superOffset:]
	if int(le.Uint32(s[36:])) != len(b)/blockSize {
		return nil, errors.New("the number of blocks is not the size")
	}
	r := &reader{b: b, xattr: int64(le.Uint32(s[44:])) * blockSize, all: map[string]found{}}
	root := uint64(le.Uint16(s[14:]))
	if err := r.dir("", root, root); err != nil {
		return nil, err
	}
	inodes := map[uint64]bool{}
	for _, f := range r.all {
		inodes[f.nid] = true
	}
	if got := le.Uint64(s[16:]); got != uint64(len(inodes)) {
		return nil, fmt.Errorf("the super block counts %d inodes, there are %d", got, len(inodes))
	}
	return r.all, nil
}

func (r *reader) dir(path string, nid, parent uint64) error {
	f, err := r.file(nid)
	if err != nil {
		return fmt.Errorf("%q: %w", path, err)
	}
	if f.mode&typeMask != typeDir {
		return fmt.Errorf("%q: a directory's entry, but mode %o", path, f.mode)
	}
	r.all[path] = f
	last, dirs := "", uint32(0)
	for data := f.data; len(data) > 0; {
		block := data[:min(blockSize, len(data))]
		data = data[len(block):]
		n := int(le.Uint16([]byte(block[8:]))) / direntSize
		for i := range n {
			e := []byte(block[direntSize*i:])
			end := len(block)
			if i+1 < n {
				end = int(le.Uint16(e[direntSize+8:]))
			}
			name := strings.TrimRight(block[le.Uint16(e[8:]):end], "\x00")
			if name <= last || name == "" {
				return fmt.Errorf("%q: %q after %q", path, name, last)
			}
			last = name
			child, err := r.entry(path, name, le.Uint64(e), nid, parent)
			if err != nil {
				return err
			}
			if e[10] != fileType(child.mode) {
				return fmt.Errorf("%q: %q is of type %d, mode %o", path, name, e[10], child.mode)
			}
			if e[10] == 2 && name != "." && name != ".." {
				dirs++
			}
		}
	}
	if f.links != dirs+2 {
		return fmt.Errorf("%q: %d links with %d directories", path, f.links, dirs)
	}
	return nil
}

func (r *reader) entry(path, name string, nid, self, parent uint64) (found, error) {
	if want, ok := map[string]uint64{".": self, "..": parent}[name]; ok && want != nid {
		return found{}, fmt.Errorf("%q: %q is %d, want %d", path, name, nid, want)
	}
	f, err := r.file(nid)
	if err != nil || name == "." || name == ".." {
		return f, err
	}
	full := strings.TrimPrefix(path+"/"+name, "/")
	if f.mode&typeMask == typeDir {
		return f, r.dir(full, nid, self)
	}
	r.all[full] = f
	return f, nil
}

func (r *reader) file(nid uint64) (f found, err error) {
	at := int64(nid) * slotSize
	b := r.b[at:]
	if at%blockSize > blockSize-inodeSize || b[0]&1 != 1 {
		return f, fmt.Errorf("inode at %d", at)
	}
	f = found{nid: nid, inode: inode{
		layout: le.Uint16(b) >> 1, xattrUnits: le.Uint16(b[2:]), mode: le.Uint16(b[4:]), size: le.Uint64(b[8:]), data: le.Uint32(b[16:]),
		uid: le.Uint32(b[24:]), gid: le.Uint32(b[28:]), mtime: int64(le.Uint64(b[32:])), nanosecond: le.Uint32(b[40:]), links: le.Uint32(b[44:]),
	}}
	behind := at + inodeSize
	if f.xattrUnits > 0 {
		body := r.b[behind : behind+xattrHeader+4*int64(f.xattrUnits-1)]
		behind += int64(len(body))
		f.xattrs = r.attributes(body)
	}
	if t := f.mode & typeMask; t != typeRegular && t != typeDir && t != typeSymlink {
		return f, nil
	}
	size := int64(f.size)
	var tail []byte
	if f.layout == flatInline {
		n := size % blockSize
		if at/blockSize != (behind+n-1)/blockSize {
			return f, fmt.Errorf("inode at %d: its end crosses a block", at)
		}
		tail, size = r.b[behind:behind+n], size-n
	}
	f.inode.data, f.data = 0, string(r.b[int64(f.inode.data)*blockSize:][:size])+string(tail)
	return f, nil
}

func (r *reader) attributes(body []byte) map[string]string {
	all := map[string]string{}
	ids := body[xattrHeader:]
	for range body[4] {
		r.attribute(all, r.b[r.xattr+4*int64(le.Uint32(ids)):])
		ids = ids[4:]
	}
	for len(ids) > 0 {
		ids = ids[r.attribute(all, ids):]
	}
	return all
}

func (r *reader) attribute(all map[string]string, b []byte) int {
	name, size := int(b[0]), int(le.Uint16(b[2:]))
	for _, p := range prefixes {
		if p.index == b[1] {
			all[p.prefix+string(b[4:4+name])] = string(b[4+name : 4+name+size])
		}
	}
	return roundUp(4+name+size, 4)
}

// A step is one thing to do to a Writer.
type step func(w *Writer) error

func add(name string, mode uint16, content string) step {
	e := Entry{Name: name, Mode: mode, Mtime: time.Unix(1, 2)}
	switch mode & typeMask {
	case typeRegular:
		e.Size = int64(len(content))
	case typeSymlink:
		e.Target = content
	}
	return func(w *Writer) error { return w.Add(e, strings.NewReader(content)) }
}

func file(name, content string) step { return add(name, typeRegular|0o644, content) }
func dir(name string) step           { return add(name, typeDir|0o755, "") }
func link(name, target string) step  { return add(name, typeSymlink|0o777, target) }
func hard(name, to string) step      { return func(w *Writer) error { return w.Link(name, to) } }
func hide(name string) step          { return func(w *Writer) error { return w.Hide(name) } }
func hideAll(name string) step       { return func(w *Writer) error { return w.HideAll(name) } }
func layer(w *Writer) error          { w.NextLayer(); return nil }

// write makes an image of steps.
func write(o Options, steps ...step) ([]byte, error) {
	var m memory
	w := NewWriter(&m, o)
	w.NextLayer()
	for _, s := range steps {
		if err := s(w); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return m.b, err
}

// image makes an image of steps and reads it.
func image(t *testing.T, steps ...step) map[string]found {
	t.Helper()
	b, err := write(Options{}, steps...)
	if err != nil {
		t.Fatal(err)
	}
	all, err := read(b)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// packed makes a tar archive.
func packed(tb testing.TB, headers ...*tar.Header) []byte {
	tb.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		if err := w.WriteHeader(h); err != nil {
			tb.Fatal(err)
		}
		if _, err := io.WriteString(w, strings.Repeat("x", int(h.Size))); err != nil {
			tb.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}
