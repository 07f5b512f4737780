package transfer

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/internal/pax"
	"github.com/agentd-go/agentd/internal/tree"
)

// listed is a machine's files with a tree of which the whole listing is known: it comes as one
// archive without contents.
type listed struct {
	Guest

	top  string
	dirs map[string][]fs.DirEntry // By the names below the top.
	link map[string]string
	errs []error
	more uint64
}

// list lists both trees, each in one request, where they are a machine's whose agent can.
func (p *Plan) list(ctx context.Context) error {
	// A directory into which only the contents go may have far more in it than the copy.
	if to, ok := p.to.(*guestTarget); ok && (!p.contents || p.sync != nil) && to.g.archives() {
		there, err := listTree(ctx, to.g, to.dir, nil)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err == nil {
			to.there = there
		}
	}
	g, ok := p.from.(Guest)
	if !ok || !g.archives() {
		return nil
	}
	l, err := listTree(ctx, g, p.source, p.exclude())
	if err != nil {
		return err
	}
	for _, err := range l.errs {
		p.failed.add(err)
	}
	p.failed.count(l.more)
	p.from = l
	return nil
}

// listTree lists a tree of a machine without the excluded names.
func listTree(ctx context.Context, g Guest, top string, exclude []string) (*listed, error) {
	l := &listed{Guest: g, top: path.Clean(top), dirs: map[string][]fs.DirEntry{}, link: map[string]string{}}
	return l, l.read(ctx, exclude)
}

func (l *listed) read(ctx context.Context, exclude []string) error {
	from, err := from(ctx, l.Guest, func(c *client.Client) (*client.Archive, error) {
		return c.Pack(ctx, l.top, client.PackOptions{Bare: true, Devices: true, Exclude: exclude})
	})
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }() // It was only read.
	r := pax.NewReader(from.Next)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = l.add(h)
		}
		if err != nil {
			return err
		}
	}
	if err := r.Drain(); err != nil {
		return err
	}
	report := from.Report()
	l.errs, l.more = withoutOdd(report.Problems), report.More
	return nil
}

// add adds a member to the listing.
func (l *listed) add(h *pax.Header) error {
	if _, err := tree.Split(h.Name); err != nil {
		return err
	}
	if h.Name != "." {
		dir := path.Dir(h.Name)
		l.dirs[dir] = append(l.dirs[dir], entry{h})
	}
	if h.Kind == pax.Symlink {
		l.link[h.Name] = h.Link
	}
	if _, known := l.dirs[h.Name]; !known && h.Kind == pax.Directory {
		l.dirs[h.Name] = nil
	}
	return nil
}

// below returns a name below the top.
func (l *listed) below(name string) (string, bool) {
	if name = path.Clean(name); name == l.top { // The top may have come as "top/.".
		return ".", true
	}
	return strings.CutPrefix(name, strings.TrimSuffix(l.top, "/")+"/")
}

// ReadDir lists a directory.
func (l *listed) ReadDir(ctx context.Context, name string) ([]fs.DirEntry, error) {
	if rel, ok := l.below(name); ok {
		if all, ok := l.dirs[rel]; ok {
			return all, nil
		}
	}
	return l.Guest.ReadDir(ctx, name)
}

// ReadLink returns what a link says.
func (l *listed) ReadLink(ctx context.Context, name string) (string, error) {
	if rel, ok := l.below(name); ok {
		if says, ok := l.link[rel]; ok {
			return says, nil
		}
	}
	return l.Guest.ReadLink(ctx, name)
}

// An entry is a member of a listing, as an entry of a directory and its description.
type entry struct{ h *pax.Header }

func (e entry) Name() string               { return path.Base(e.h.Name) }
func (e entry) IsDir() bool                { return e.h.Kind == pax.Directory }
func (e entry) Type() fs.FileMode          { return e.Mode().Type() }
func (e entry) Info() (fs.FileInfo, error) { return e, nil }
func (e entry) ModTime() time.Time         { return time.Unix(e.h.Sec, e.h.Nsec) }
func (e entry) Sys() any                   { return &client.Stat{UID: e.h.UID, GID: e.h.GID} }
func (e entry) Mode() fs.FileMode          { return modeOf(e.h) }

// Size is the size of a file. A machine may send any number.
func (e entry) Size() int64 {
	for _, r := range e.h.Records {
		if r.Name == tree.SizeRecord {
			n, _ := strconv.ParseInt(r.Value, 10, 64) // 0 for what is no number.
			return max(n, 0)
		}
	}
	return 0
}

// modeOf is a member's mode.
func modeOf(h *pax.Header) fs.FileMode {
	mode := fs.FileMode(h.Mode) & fs.ModePerm
	for bit, m := range specialBits {
		if h.Mode&bit != 0 {
			mode |= m
		}
	}
	return mode | kinds[h.Kind]
}

// specialBits are the bits of st_mode besides permissions (inode(7)).
var specialBits = map[uint32]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky}

var kinds = map[pax.Kind]fs.FileMode{
	pax.Directory: fs.ModeDir, pax.Symlink: fs.ModeSymlink, pax.Fifo: fs.ModeNamedPipe,
	pax.CharDevice: fs.ModeDevice | fs.ModeCharDevice, pax.BlockDevice: fs.ModeDevice,
}

// modeBits are the bits of st_mode for a mode.
func modeBits(mode fs.FileMode) uint32 {
	bits := uint32(mode & fs.ModePerm)
	for bit, m := range specialBits {
		if mode&m != 0 {
			bits |= bit
		}
	}
	return bits
}
