package transfer

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/internal/archive"
)

// A Reporter is called with a line for each file that an archive cannot hold or a side
// cannot make.
type Reporter func(line string)

// WriteTar writes a tree as a tar archive; members are named below the tree's own name.
// It leaves out files that cannot be read and writes the rest: the archive is valid,
// and the error names those files.
func WriteTar(ctx context.Context, to io.Writer, from End, report Reporter) error {
	a := &archiving{w: tar.NewWriter(to), side: from.Side, report: report}
	info, err := from.Side.Lstat(ctx, from.Name)
	if err != nil {
		return err
	}
	name := from.Side.Base(from.Name)
	if name == "/" || strings.HasSuffix(from.Name, "/.") {
		name = "."
	}
	if g, ok := from.Side.(Guest); ok && info.IsDir() && g.archives() {
		return streamOut(ctx, to, from, g, name)
	}
	if err := a.member(ctx, from.Name, name, info); err != nil {
		return err
	}
	return errors.Join(a.w.Close(), a.failed.err())
}

// An archiving is the writing of one archive. An error of its methods ends it.
type archiving struct {
	w      *tar.Writer
	side   Side
	report Reporter
	failed failures // Errors of files that were left out.
}

// member adds the file at from, called name.
func (a *archiving) member(ctx context.Context, from, name string, info fs.FileInfo) error {
	switch {
	case info.IsDir():
		return a.dir(ctx, from, name, info)
	case info.Mode().IsRegular():
		return a.file(ctx, from, name, info)
	case info.Mode()&fs.ModeSymlink != 0:
		link, err := a.side.ReadLink(ctx, from)
		if err == nil {
			err = asText(from, link)
		}
		if err != nil {
			return a.leave(ctx, err)
		}
		return a.head(name, link, info)
	}
	a.report(fmt.Sprintf("%s: left out: %s is no file, directory or link", from, info.Mode().Type()))
	return nil
}

// leave notes that a member was left out. It returns an error only if ctx or the link
// has ended.
func (a *archiving) leave(ctx context.Context, err error) error {
	if gone := context.Cause(ctx); gone != nil {
		return gone
	}
	if _, over := errors.AsType[*client.LinkError](err); over {
		return err
	}
	a.failed.add(err)
	return nil
}

func (a *archiving) head(name, link string, info fs.FileInfo) error {
	h, err := tar.FileInfoHeader(plain{info}, link)
	if err != nil {
		return err
	}
	h.ModTime = h.ModTime.Truncate(time.Second) // The format would round it up, into the future.
	if h.Name = name; info.IsDir() {
		h.Name += "/"
	}
	return a.w.WriteHeader(h)
}

func (a *archiving) dir(ctx context.Context, from, name string, info fs.FileInfo) error {
	entries, err := a.side.ReadDir(ctx, from)
	if err != nil {
		return a.leave(ctx, err)
	}
	if err := a.head(name, "", info); err != nil {
		return err
	}
	for _, e := range entries {
		if err := checkName(from, e.Name()); err != nil {
			return err
		}
		if err := asText(from, e.Name()); err != nil {
			a.failed.add(err)
			continue
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // It has gone meanwhile.
		}
		if err == nil {
			err = a.member(ctx, a.side.Join(from, e.Name()), path.Join(name, e.Name()), info)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// file writes exactly the size in the header, even if the file has changed. A file that
// became shorter ends the archive, because the next member would be read as its rest.
func (a *archiving) file(ctx context.Context, from, name string, info fs.FileInfo) error {
	f, err := a.side.Open(ctx, from)
	if err != nil {
		return a.leave(ctx, err)
	}
	defer func() { _ = f.Close() }() // It was only read.
	if err := a.head(name, "", info); err != nil {
		return err
	}
	n, err := io.CopyN(a.w, f, info.Size())
	if err == io.EOF { //nolint:errorlint // A wrapped one is no end.
		err = fmt.Errorf("%s: ended after %d of %d bytes", from, n, info.Size())
	}
	return err
}

// plain hides a file's owner, which means nothing outside this host.
type plain struct{ fs.FileInfo }

func (plain) Sys() any { return nil }

// ReadTar unpacks a tar archive below a directory. A machine whose agent has archives gets
// owners, hard links, extended attributes and devices too.
//
// It refuses names that lead out of
// the directory. It makes links unchanged and never follows them on the way to a
// member. A member gets its name only when it is complete. It reports devices and
// pipes, which no side can make, and leaves them out. It also reports a hard link that
// became a copy.
func ReadTar(ctx context.Context, to End, from io.Reader, report Reporter) (err error) {
	if g, ok := to.Side.(Guest); ok && g.archives() {
		return streamIn(ctx, to, g, from, report)
	}
	r := archive.NewReader(from)
	u := unpacking{to: to.Side.Below(to.Name), real: map[string]bool{".": true}, report: report}
	defer func() { err = errors.Join(err, u.to.Close()) }()
	if err := u.to.Mkdir(ctx, "."); err != nil {
		return err
	}
	return errors.Join(u.members(ctx, r), u.to.Settle(ctx)) // Members before a failure are complete and keep their names.
}

type unpacking struct {
	to     Target
	real   map[string]bool // Directories that are known not to be links.
	dirs   []*tar.Header   // Their modes and times are set last.
	report Reporter
}

func (u *unpacking) members(ctx context.Context, r *archive.Reader) error {
	for {
		h, err := r.Next()
		if err == io.EOF { //nolint:errorlint // A wrapped one is no end.
			return errors.Join(r.Drain(), u.finish(ctx))
		}
		if err == nil {
			err = u.member(ctx, h, r)
		}
		if err != nil {
			return err
		}
	}
}

// memberName returns the name of a member below the target, for a side whose names are text.
func memberName(name string) (string, error) {
	if !utf8.ValidString(name) {
		return "", fmt.Errorf("archive member %q: the name is not UTF-8", name)
	}
	return cleanName(name)
}

// cleanName returns the name of a member below the target.
func cleanName(name string) (string, error) {
	clean := path.Clean(name)
	switch {
	case clean == ".." || strings.HasPrefix(clean, "../"):
		return "", fmt.Errorf("archive member %q: leads out of the directory", name)
	case clean == "/":
		return ".", nil
	}
	return strings.TrimPrefix(clean, "/"), nil
}

func (u *unpacking) member(ctx context.Context, h *tar.Header, r io.Reader) error {
	name, err := memberName(h.Name)
	if err != nil {
		return err
	}
	if err := u.parents(ctx, path.Dir(name)); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		h.Name = name
		u.dirs = append(u.dirs, h)
		return u.parents(ctx, name)
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		return u.file(ctx, name, h, r)
	case tar.TypeXGlobalHeader:
		return nil // A comment on the archive, such as git's.
	case tar.TypeSymlink:
		if err := u.clear(ctx, name); err != nil {
			return err
		}
		return u.to.Symlink(ctx, h.Linkname, name, h.ModTime)
	case tar.TypeLink:
		return u.link(ctx, name, h)
	}
	u.report(fmt.Sprintf("%s: left out: a member of type %q is no file, directory or link", name, h.Typeflag))
	return nil
}

// link gives an earlier member a second name. It checks the path to it like that of any
// member.
func (u *unpacking) link(ctx context.Context, name string, h *tar.Header) error {
	old, err := memberName(h.Linkname)
	if err != nil {
		return err
	}
	if err := u.parents(ctx, path.Dir(old)); err != nil {
		return err
	}
	info, err := u.to.Lstat(ctx, old)
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("is %s", kind(info.Mode()))
	}
	if err != nil {
		return fmt.Errorf("archive member %q: second name of %q: %w", h.Name, h.Linkname, err)
	}
	if name == old {
		return nil
	}
	if err := u.clear(ctx, name); err != nil {
		return err
	}
	shared, err := u.to.Link(ctx, old, name)
	if err == nil && !shared {
		u.report(fmt.Sprintf("%s: a copy of %s: machines are given no second names of a file", name, old))
	}
	return err
}

// parents makes a directory and its missing parents. It replaces a link in their place.
func (u *unpacking) parents(ctx context.Context, dir string) error {
	if u.real[dir] {
		return nil
	}
	if err := u.parents(ctx, path.Dir(dir)); err != nil {
		return err
	}
	info, err := u.to.Lstat(ctx, dir)
	if err == nil && !info.IsDir() {
		err = u.to.Remove(ctx, dir)
	} else if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err == nil {
		err = u.to.Mkdir(ctx, dir)
	}
	u.real[dir] = err == nil
	return err
}

// clear removes the file at a member's name, and forgets that it was a directory.
func (u *unpacking) clear(ctx context.Context, name string) error {
	delete(u.real, name)
	err := u.to.Remove(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (u *unpacking) file(ctx context.Context, name string, h *tar.Header, r io.Reader) error {
	if info, err := u.to.Lstat(ctx, name); err == nil && info.IsDir() {
		if err := u.clear(ctx, name); err != nil { // Fails for a directory with entries.
			return err
		}
	}
	f, err := u.to.Create(ctx, name)
	if err != nil {
		return err
	}
	if _, err = io.Copy(f, r); err == nil {
		err = f.Describe(h.FileInfo().Mode(), h.ModTime)
	}
	if err != nil {
		return errors.Join(named(err, name), f.Abort())
	}
	return f.Commit()
}

// finish sets the modes and times of directories, after all files in them have their
// names.
func (u *unpacking) finish(ctx context.Context) error {
	if err := u.to.Settle(ctx); err != nil {
		return err
	}
	for _, h := range slices.Backward(u.dirs) {
		if !u.real[h.Name] {
			continue // A later member has replaced it.
		}
		if err := u.to.Describe(ctx, h.Name, h.FileInfo().Mode(), h.ModTime); err != nil {
			return err
		}
	}
	return nil
}
