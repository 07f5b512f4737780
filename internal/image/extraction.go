package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"sync/atomic"
)

// An extraction writes the members of an archive below a directory.
type extraction struct {
	root    *os.Root
	owners  bool // This process may give files to other users.
	dirs    []*tar.Header
	sockets atomic.Int64 // The archive's writer counts them.

	devices, setID, attributes, others int // What is left out.
}

// all reads the whole archive. Directories get their attributes last, because files in
// them change their times, and a mode can forbid to write.
func (x *extraction) all(from *tar.Reader) error {
	for {
		h, err := from.Next()
		if err == io.EOF { //nolint:errorlint // A wrapped one is no end.
			break
		}
		if err == nil {
			h.Name = path.Clean(h.Name)
			err = x.member(h, from)
		}
		if err != nil {
			return err
		}
	}
	for _, h := range slices.Backward(x.dirs) {
		if err := x.describe(h); err != nil {
			return err
		}
	}
	return nil
}

func (x *extraction) member(h *tar.Header, from io.Reader) error {
	const private = 0o700
	if len(h.PAXRecords) > 0 {
		x.note(h)
	}
	switch h.Typeflag {
	case tar.TypeDir:
		x.dirs = append(x.dirs, h)
		if h.Name == "." {
			return nil
		}
		return x.root.Mkdir(h.Name, private)
	case tar.TypeReg:
		return errors.Join(x.file(h, from), x.describe(h))
	case tar.TypeSymlink:
		return errors.Join(x.root.Symlink(h.Linkname, h.Name), x.own(h))
	case tar.TypeLink:
		return x.root.Link(h.Linkname, h.Name)
	default:
		x.devices++
		return nil
	}
}

// note counts a member's extended attributes. PAXRecords has other keys too.
func (x *extraction) note(h *tar.Header) {
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "SCHILY.xattr.") {
			x.attributes++
			return
		}
	}
}

func (x *extraction) file(h *tar.Header, from io.Reader) error {
	const private = 0o600
	f, err := x.root.OpenFile(h.Name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, private)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, from)
	return errors.Join(err, f.Close())
}

// describe sets the owner first: a change of it clears bits of the mode.
func (x *extraction) describe(h *tar.Header) error {
	const setID, sticky = 0o6000, 0o1000
	if h.Mode&setID != 0 && h.Typeflag != tar.TypeDir {
		x.setID++
	}
	mode := fs.FileMode(h.Mode).Perm()
	if h.Mode&sticky != 0 {
		mode |= fs.ModeSticky
	}
	return errors.Join(x.own(h), x.root.Chmod(h.Name, mode), x.root.Chtimes(h.Name, h.ModTime, h.ModTime))
}

func (x *extraction) own(h *tar.Header) error {
	if x.owners {
		return x.root.Lchown(h.Name, h.Uid, h.Gid)
	}
	if h.Uid != 0 || h.Gid != 0 {
		x.others++
	}
	return nil
}

// left returns a line for each kind of what was left out.
func (x *extraction) left() (lines []string) {
	for _, k := range []struct {
		n    int
		what string
	}{
		{x.devices + int(x.sockets.Load()), "devices, fifos and sockets were left out"},
		{x.setID, "files lost their set-user-ID or set-group-ID bit"},
		{x.attributes, "files lost their extended attributes"},
		{x.others, "files of other users than root became this host's user's, because only root can give files away"},
	} {
		if k.n > 0 {
			lines = append(lines, fmt.Sprintf("%d %s", k.n, k.what))
		}
	}
	return lines
}
