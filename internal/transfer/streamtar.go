package transfer

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/internal/archive"
	"github.com/agentd-go/agentd/internal/pax"
)

// streamOut writes the archive that a machine packs, with members below a name. It has all
// that a tar archive can have: owners, nanoseconds, hard links, holes, extended attributes and
// devices.
func streamOut(ctx context.Context, to io.Writer, from End, g Guest, name string) error {
	c, err := g.client(ctx)
	if err != nil {
		return err
	}
	a, err := c.Pack(ctx, from.Name, client.PackOptions{Xattrs: true, Links: true, Devices: true})
	if err != nil {
		return err
	}
	defer func() { _ = a.Close() }() // It was only read.
	f := &filter{from: pax.NewReader(a.Next), accept: below(name), done: func(*pax.Header) {}, bytes: new(atomic.Int64)}
	if _, err := io.Copy(to, f); err != nil {
		return err
	}
	var failed failures
	failed.report(a.Report(), from.Name)
	return failed.err()
}

// below puts all members below a name.
func below(name string) func(h *pax.Header) bool {
	put := func(s string) string {
		switch {
		case name == ".":
			return s
		case s == ".":
			return name
		}
		return name + "/" + s
	}
	return func(h *pax.Header) bool {
		h.Name = put(h.Name)
		if h.Kind == pax.HardLink {
			h.Link = put(h.Link)
		}
		return true
	}
}

// streamIn lets a machine unpack any archive: the machine knows only one form, so it is read
// here and written again.
func streamIn(ctx context.Context, to End, g Guest, from io.Reader, report Reporter) error {
	c, err := g.client(ctx)
	if err != nil {
		return err
	}
	r, w := io.Pipe()
	go func() { _ = w.CloseWithError(rewrite(w, archive.NewReader(from), report)) }()
	got, err := c.Unpack(ctx, to.Name, r, client.UnpackOptions{Owners: true, Xattrs: true, Devices: true, Replace: true})
	_ = r.Close() // The machine has refused the rest.
	var failed failures
	failed.add(err)
	failed.report(got, to.Name)
	return failed.err()
}

// A rewriting writes an archive in the form that machines read.
type rewriting struct {
	to     io.Writer
	from   *archive.Reader
	report Reporter
	dirs   map[string]*pax.Header
	order  []string // Of dirs.
}

// rewrite writes an archive. Directories come a second time at its end, because members after
// them have changed their times.
func rewrite(to io.Writer, from *archive.Reader, report Reporter) error {
	r := &rewriting{to: to, from: from, report: report, dirs: map[string]*pax.Header{}}
	for {
		t, err := from.Next()
		if err == io.EOF { //nolint:errorlint // A wrapped one is no end.
			break
		}
		if err == nil {
			err = r.member(t)
		}
		if err != nil {
			return err
		}
	}
	return errors.Join(r.end(), from.Drain())
}

// member writes one member.
func (r *rewriting) member(t *tar.Header) error {
	h, err := headerOf(t)
	if err != nil {
		return err
	}
	if h == nil {
		if t.Typeflag != tar.TypeXGlobalHeader { // A comment on the archive, such as git's.
			r.report(fmt.Sprintf("%s: left out: a member of type %q is no file, directory or link", t.Name, t.Typeflag))
		}
		return nil
	}
	if delete(r.dirs, h.Name); h.Kind == pax.Directory {
		r.dirs[h.Name] = h
		r.order = append(r.order, h.Name)
	}
	head, err := pax.AppendHeader(nil, h)
	if err != nil {
		return err
	}
	if _, err := r.to.Write(head); err != nil {
		return err
	}
	if h.Kind == pax.Regular {
		if _, err := io.Copy(r.to, r.from); err != nil {
			return err
		}
	}
	_, err = r.to.Write(pax.Padding(h))
	return err
}

// end writes the directories that are still there, and the end.
func (r *rewriting) end() (err error) {
	var b []byte
	for _, name := range r.order {
		if h := r.dirs[name]; h != nil {
			if b, err = pax.AppendHeader(b, h); err != nil {
				return err
			}
			delete(r.dirs, name)
		}
	}
	_, err = r.to.Write(append(b, pax.End()...))
	return err
}

var kindOf = map[byte]pax.Kind{
	tar.TypeReg: pax.Regular, tar.TypeCont: pax.Regular, tar.TypeGNUSparse: pax.Regular,
	tar.TypeLink: pax.HardLink, tar.TypeSymlink: pax.Symlink, tar.TypeDir: pax.Directory,
	tar.TypeChar: pax.CharDevice, tar.TypeBlock: pax.BlockDevice, tar.TypeFifo: pax.Fifo,
}

// headerOf returns the header of a member as machines read it, nil for one of a type that they
// do not know.
func headerOf(t *tar.Header) (*pax.Header, error) {
	kind, known := kindOf[t.Typeflag]
	if !known {
		return nil, nil //nolint:nilnil // It is left out.
	}
	name, err := cleanName(t.Name)
	if err != nil {
		return nil, err
	}
	h := &pax.Header{
		Name: name, Kind: kind, Mode: uint32(t.Mode) & 0o7777, UID: uint32(t.Uid), GID: uint32(t.Gid),
		Sec: t.ModTime.Unix(), Nsec: int64(t.ModTime.Nanosecond()), Link: t.Linkname,
		Major: uint32(t.Devmajor), Minor: uint32(t.Devminor),
	}
	if kind == pax.Regular {
		h.Size = t.Size
	}
	if kind == pax.HardLink {
		if h.Link, err = cleanName(t.Linkname); err != nil {
			return nil, fmt.Errorf("archive member %q: second name of %q: %w", t.Name, t.Linkname, err)
		}
	}
	const xattr = "SCHILY.xattr."
	for _, key := range slices.Sorted(maps.Keys(t.PAXRecords)) {
		if x, ok := strings.CutPrefix(key, xattr); ok {
			h.Xattrs = append(h.Xattrs, pax.Xattr{Name: x, Value: t.PAXRecords[key]})
		}
	}
	return h, nil
}
