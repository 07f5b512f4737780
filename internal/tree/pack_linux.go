package tree

import (
	"errors"
	"io"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/agentd-go/agentd/internal/pax"
)

const (
	// small is the size of files that are read before their header is written, so that the
	// header has the true size even if the file changes. Most files are smaller.
	small = 64 << 10

	// maxLinks bounds the files whose second names are looked for.
	maxLinks = 1 << 16

	// maxNames bounds the names of the open directories, in bytes.
	maxNames = 64 << 20
)

// A Packer makes the archive of a tree, which is read from it.
type Packer struct {
	Report Report

	how    Pack
	device uint64
	after  []string // The parts of how.After that are still to be found.
	levels []level
	names  int // Bytes of the names in levels.
	seen   map[node]string
	list   []string // The rest of how.Names.

	out  []byte // Bytes that precede the rest of the current file.
	file *packedFile
	buf  [small]byte
	over bool
}

// A node identifies a file.
type node struct{ device, inode uint64 }

// A level is an open directory.
type level struct {
	fd      int
	name    string // "" for the top.
	entries []entry
	bytes   int
}

// NewPacker opens the directory to pack. The caller closes the packer.
func NewPacker(dir string, how Pack) (*Packer, error) {
	if err := how.Exclude.Check(); err != nil {
		return nil, err
	}
	fd, err := retry(func() (int, error) { return unix.Open(dir, openDir|unix.O_CLOEXEC, 0) })
	if err != nil {
		return nil, err
	}
	p := &Packer{how: how, seen: map[node]string{}, list: how.Names}
	if how.After != "" && how.After != "." {
		p.after = strings.Split(how.After, "/")
	}
	if err := p.top(fd); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// top packs the directory itself.
func (p *Packer) top(fd int) error {
	p.levels = []level{{fd: fd}}
	var st unix.Stat_t
	if err := again(func() error { return unix.Fstat(fd, &st) }); err != nil {
		return err
	}
	p.device = st.Dev
	if p.how.Names != nil {
		return nil
	}
	if err := p.read(&p.levels[0]); err != nil {
		return err
	}
	if p.how.After == "" {
		p.head(fd, "", ".", &st, pax.Directory)
	}
	return nil
}

// Close closes what is open.
func (p *Packer) Close() {
	p.closeFile()
	for _, l := range p.levels {
		closeFD(l.fd)
	}
	p.levels = nil
}

// Read reads the archive. It fills b unless the archive ends.
func (p *Packer) Read(b []byte) (n int, err error) {
	for n < len(b) {
		switch {
		case len(p.out) > 0:
			m := copy(b[n:], p.out)
			p.out, n = p.out[m:], n+m
		case p.file != nil:
			n += p.contents(b[n:])
		case p.over:
			if n == 0 {
				return 0, io.EOF
			}
			return n, nil
		default:
			p.next()
		}
	}
	return n, nil
}

// next packs the next member, which may be none.
func (p *Packer) next() {
	if p.how.Names != nil {
		p.nextName()
		return
	}
	for len(p.levels) > 0 {
		l := &p.levels[len(p.levels)-1]
		if len(l.entries) == 0 {
			p.leave()
			continue
		}
		e := l.entries[0]
		l.entries = l.entries[1:]
		skip, inside := p.passed(e.name)
		if skip {
			continue
		}
		depth := len(p.levels)
		packed := p.enter(l.fd, e, join(l.name, e.name), inside)
		if inside && len(p.levels) == depth { // It is a directory no more.
			p.after = nil
		}
		if packed {
			return
		}
	}
	p.end()
}

func (p *Packer) end() {
	p.over, p.out = true, pax.End()
}

// leave closes the deepest directory.
func (p *Packer) leave() {
	last := len(p.levels) - 1
	closeFD(p.levels[last].fd)
	p.names -= p.levels[last].bytes
	p.levels = p.levels[:last]
	if len(p.after) > 0 && len(p.levels) > 0 {
		p.after = nil // Its directory is done.
	}
}

// passed reports whether an entry comes before the place where the archive begins. inside
// says that the entry was packed already, and that what is below it may not have been.
func (p *Packer) passed(name string) (skip, inside bool) {
	if len(p.after) == 0 {
		return false, false
	}
	switch c := strings.Compare(name, p.after[0]); {
	case c < 0:
		return true, false
	case c > 0:
		p.after = nil
		return false, false
	}
	p.after = p.after[1:]
	return false, true
}

// nextName packs the next of the names that were asked for.
func (p *Packer) nextName() {
	if len(p.list) == 0 {
		p.end()
		return
	}
	name := p.list[0]
	p.list = p.list[1:]
	p.enter(p.levels[0].fd, entry{name: name, kind: unix.DT_UNKNOWN}, name, false)
}

func join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}

// enter packs one entry, and goes down into a directory. It reports whether there is
// something to read.
func (p *Packer) enter(dir int, e entry, name string, inside bool) bool {
	if p.how.Exclude.Match(name) || inside && e.kind != unix.DT_DIR && e.kind != unix.DT_UNKNOWN {
		return false
	}
	if e.kind == unix.DT_REG {
		return p.regular(dir, e.name, name, nil)
	}
	var st unix.Stat_t
	if err := again(func() error { return unix.Fstatat(dir, e.name, &st, unix.AT_SYMLINK_NOFOLLOW) }); err != nil {
		p.problem("stat", name, err)
		return false
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return p.directory(dir, e.name, name, &st, inside)
	case unix.S_IFREG:
		return !inside && p.regular(dir, e.name, name, &st)
	case unix.S_IFSOCK:
		p.problem("pack", name, ErrSocket)
		return false
	}
	return !inside && p.special(dir, e.name, name, &st)
}

// problem reports a member that cannot be packed. One that has gone is none.
func (p *Packer) problem(op, name string, err error) {
	if p.how.Names != nil || !errors.Is(err, unix.ENOENT) {
		p.Report.Problem(op, name, err)
	}
}

func (p *Packer) directory(parent int, base, name string, st *unix.Stat_t, inside bool) bool {
	if p.how.Names != nil || p.how.OneDevice && st.Dev != p.device { // The mount point itself is packed.
		return !inside && p.head(parent, base, name, st, pax.Directory)
	}
	if len(p.levels) == MaxDepth {
		p.problem("open", name, unix.ENAMETOOLONG)
		return false
	}
	l := level{name: name}
	var err error
	if l.fd, err = openat(parent, base, openDir, 0); err == nil {
		if err = p.read(&l); err != nil {
			closeFD(l.fd)
		}
	}
	if err != nil {
		p.problem("open", name, err)
		return false
	}
	p.levels = append(p.levels, l)
	if !inside {
		p.after = nil
	}
	return !inside && p.head(l.fd, "", name, st, pax.Directory)
}

// special packs a link, a device or a fifo.
func (p *Packer) special(dir int, base, name string, st *unix.Stat_t) bool {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		return p.head(dir, base, name, st, pax.Symlink)
	case unix.S_IFCHR:
		return p.device1(dir, base, name, st, pax.CharDevice)
	case unix.S_IFBLK:
		return p.device1(dir, base, name, st, pax.BlockDevice)
	}
	return p.device1(dir, base, name, st, pax.Fifo)
}

func (p *Packer) device1(dir int, base, name string, st *unix.Stat_t, kind pax.Kind) bool {
	if !p.how.Devices {
		p.problem("pack", name, ErrDevice)
		return false
	}
	return p.head(dir, base, name, st, kind)
}

// head makes the header of a member without contents. A directory has its own descriptor
// and no base.
func (p *Packer) head(dir int, base, name string, st *unix.Stat_t, kind pax.Kind) bool {
	h := headerOf(name, st, kind)
	if kind == pax.Symlink {
		link, err := readLink(dir, base)
		if err != nil {
			p.problem("readlink", name, err)
			return false
		}
		h.Link = link
	}
	if p.how.Xattrs {
		p.xattrs(h, dir, base)
	}
	return p.emit(h)
}

// emit appends a header to what is read next.
func (p *Packer) emit(h *pax.Header) bool {
	out, err := pax.AppendHeader(p.out[:0], h)
	if err != nil {
		p.problem("pack", h.Name, errors.Unwrap(err))
		return false
	}
	p.out = out
	p.Report.Entries++
	if p.how.Packed != nil {
		p.how.Packed(h)
	}
	return true
}

func headerOf(name string, st *unix.Stat_t, kind pax.Kind) *pax.Header {
	h := &pax.Header{
		Name: name, Kind: kind, Mode: st.Mode & 0o7777, UID: st.Uid, GID: st.Gid,
		Sec: st.Mtim.Sec, Nsec: st.Mtim.Nsec,
	}
	if kind == pax.CharDevice || kind == pax.BlockDevice {
		h.Major, h.Minor = unix.Major(st.Rdev), unix.Minor(st.Rdev)
	}
	return h
}

func readLink(dir int, name string) (string, error) {
	buf := make([]byte, pax.MaxName)
	n, err := retry(func() (int, error) { return unix.Readlinkat(dir, name, buf) })
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}
