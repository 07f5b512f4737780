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
)

// WriteTar writes a tree as a tar archive, with the names of its members below
// the tree's own.
func WriteTar(ctx context.Context, to io.Writer, from End) error {
	w := tar.NewWriter(to)
	info, err := from.Side.Lstat(ctx, from.Name)
	if err != nil {
		return err
	}
	name := from.Side.Base(from.Name)
	if name == "/" || strings.HasSuffix(from.Name, "/.") {
		name = "."
	}
	if err := writeMember(ctx, w, from, name, info); err != nil {
		return err
	}
	return w.Close()
}

func writeMember(ctx context.Context, w *tar.Writer, from End, name string, info fs.FileInfo) (err error) {
	link := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		if link, err = from.Side.ReadLink(ctx, from.Name); err != nil {
			return err
		}
	}
	if !info.IsDir() && link == "" && !info.Mode().IsRegular() {
		return nil // Nobody who unpacks it could make it.
	}
	h, err := tar.FileInfoHeader(plain{info}, link)
	if err != nil {
		return err
	}
	h.ModTime = h.ModTime.Truncate(time.Second) // The format would round it up, into the future.
	if h.Name = name; info.IsDir() {
		h.Name += "/"
	}
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	switch {
	case info.IsDir():
		return writeMembers(ctx, w, from, name)
	case info.Mode().IsRegular():
		return writeContents(ctx, w, from, info.Size())
	}
	return nil
}

func writeMembers(ctx context.Context, w *tar.Writer, from End, name string) error {
	entries, err := from.Side.ReadDir(ctx, from.Name)
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // It has gone meanwhile.
		}
		if err == nil {
			err = checkName(from.Name, e.Name())
		}
		if err == nil {
			member := End{from.Side, from.Side.Join(from.Name, e.Name())}
			err = writeMember(ctx, w, member, path.Join(name, e.Name()), info)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// writeContents writes exactly the size that was promised, whatever the file has
// become.
func writeContents(ctx context.Context, w io.Writer, from End, size int64) error {
	f, err := from.Side.Open(ctx, from.Name)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // It was only read.
	_, err = io.CopyN(w, f, size)
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("%s became shorter while it was read", from.Name)
	}
	return err
}

// plain hides what a file's description says of this host's users.
type plain struct{ fs.FileInfo }

func (plain) Sys() any { return nil }

// ReadTar unpacks a tar archive below a directory. Names that lead out of it are
// refused, and links are made as they are but never followed on the way to a member.
func ReadTar(ctx context.Context, to End, from io.Reader) error {
	r := tar.NewReader(from)
	u := unpacking{to: to, real: map[string]bool{".": true}}
	if err := to.Side.Mkdir(ctx, to.Name); err != nil {
		return err
	}
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return u.finish(ctx)
		}
		if err == nil {
			err = u.member(ctx, h, r)
		}
		if err != nil {
			return err
		}
	}
}

type unpacking struct {
	to   End
	real map[string]bool // Directories that are known to be no links.
	dirs []*tar.Header   // To be described last.
}

func (u *unpacking) name(member string) string { return u.to.Side.Join(u.to.Name, member) }

func (u *unpacking) member(ctx context.Context, h *tar.Header, r io.Reader) error {
	name := path.Clean(h.Name)
	if !fs.ValidPath(strings.TrimPrefix(name, "/")) && name != "/" {
		return fmt.Errorf("archive member %q: leads out of the directory", h.Name)
	}
	if name = strings.TrimPrefix(name, "/"); name == "" {
		name = "."
	}
	if err := u.parents(ctx, path.Dir(name)); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		h.Name = name
		u.dirs = append(u.dirs, h)
		return u.parents(ctx, name)
	case tar.TypeReg:
		return u.file(ctx, name, h, r)
	case tar.TypeSymlink:
		if err := u.clear(ctx, name); err != nil {
			return err
		}
		return u.to.Side.Symlink(ctx, h.Linkname, u.name(name), h.ModTime)
	}
	return fmt.Errorf("archive member %q: type %q cannot be made in a machine", h.Name, h.Typeflag)
}

// parents makes a directory, and each above it, that is none yet; one that is a
// link is replaced.
func (u *unpacking) parents(ctx context.Context, dir string) error {
	if u.real[dir] {
		return nil
	}
	if err := u.parents(ctx, path.Dir(dir)); err != nil {
		return err
	}
	info, err := u.to.Side.Lstat(ctx, u.name(dir))
	if err == nil && !info.IsDir() {
		err = u.to.Side.Remove(ctx, u.name(dir))
	} else if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err == nil {
		err = u.to.Side.Mkdir(ctx, u.name(dir))
	}
	u.real[dir] = err == nil
	return err
}

// clear removes what has a member's name. A directory is known to be one no longer.
func (u *unpacking) clear(ctx context.Context, name string) error {
	delete(u.real, name)
	err := u.to.Side.Remove(ctx, u.name(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (u *unpacking) file(ctx context.Context, name string, h *tar.Header, r io.Reader) error {
	if err := u.clear(ctx, name); err != nil {
		return err
	}
	f, err := u.to.Side.Create(ctx, u.name(name))
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	if err == nil {
		err = f.Describe(h.FileInfo().Mode(), h.ModTime)
	}
	return errors.Join(err, f.Close())
}

func (u *unpacking) finish(ctx context.Context) error {
	for _, h := range slices.Backward(u.dirs) {
		if !u.real[h.Name] {
			continue // A later member has its place.
		}
		if err := u.to.Side.Describe(ctx, u.name(h.Name), h.FileInfo().Mode(), h.ModTime); err != nil {
			return err
		}
	}
	return nil
}
