package files

import (
	"errors"
	"io"
	"math"
	"os"
	"path"
	"strings"
	"syscall"

	"github.com/agentd-go/agentd/internal/guest/session"
	"github.com/agentd-go/agentd/internal/guest/sys"
	"github.com/agentd-go/agentd/wire"
)

// directory is the access of OpenDir.
var directory = sys.Access{Read: true, Directory: true}

// The refusals of options that mean nothing (protocol section 9.7).
var (
	errNoAccess   = errors.New("must specify at least one of read, write, or append access")
	errNoCreation = errors.New("creating or truncating a file requires write or append access")
)

// checkOptions refuses the options that the reference agents refuse: to create or truncate
// without writing, and to truncate a file opened for appending.
func checkOptions(o *wire.OpenOptions) error {
	switch {
	case !o.Read && !o.Write && !o.Append:
		return errNoAccess
	case o.Append && o.Truncate && !o.CreateNew,
		!o.Append && !o.Write && (o.Create || o.Truncate || o.CreateNew):
		return errNoCreation
	}
	return nil
}

func accessOf(o *wire.OpenOptions) sys.Access {
	mode := uint32(sys.Umasked)
	if o.Mode != nil {
		mode = *o.Mode
	}
	return sys.Access{
		Read: o.Read, Write: o.Write, Append: o.Append,
		Create: o.Create, Truncate: o.Truncate, Exclusive: o.CreateNew, Mode: mode,
	}
}

// open opens a file or directory for the client.
func (c *client) open(name string, access sys.Access) (wire.FSResult, error) {
	if err := c.reserve(); err != nil {
		return nil, err
	}
	file, err := sys.OpenFile(name, access)
	if err != nil {
		c.unreserve()
		return nil, err
	}
	h, err := newHandle(name, file, access)
	if err != nil {
		c.unreserve()
		return nil, err
	}
	id, err := c.add(h)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &wire.ResultHandle{Handle: id}, nil
}

// realPath resolves all links. The last name need not exist; the path before it must.
// That path may name a file, as with the reference agents.
func realPath(name string) (wire.FSResult, error) {
	found, err := sys.RealPath(name)
	if err != nil {
		found, err = realParent(name, err)
	}
	if err != nil {
		return nil, err
	}
	return &wire.ResultPath{Path: wire.ValidText(found)}, nil
}

// realParent returns the real path of a file that does not exist yet.
func realParent(name string, missing error) (string, error) {
	for strings.HasSuffix(name, "/") || strings.HasSuffix(name, "/.") {
		name = strings.TrimSuffix(strings.TrimSuffix(name, "."), "/")
	}
	last := name[strings.LastIndexByte(name, '/')+1:]
	if last == "" || last == "." || last == ".." {
		return "", missing
	}
	before := sys.Parent(name)
	if len(before) > 1 {
		before = strings.TrimSuffix(before, "/") // With the slash it would have to be a directory.
	}
	parent, err := sys.RealPath(before)
	return path.Join(parent, last), err
}

func readLink(name string) (wire.FSResult, error) {
	target, err := sys.ReadLink(name)
	if err != nil {
		return nil, err
	}
	return &wire.ResultPath{Path: wire.ValidText(target)}, nil
}

func symlink(op *wire.OpSymlink) error { return sys.Symlink(op.Target, op.LinkPath) }

func remove(op *wire.OpRemove) error { return sys.Unlink(op.Path) }

func rename(op *wire.OpRename) error { return sys.Rename(op.Src, op.Dst) }

func mkdir(op *wire.OpMkdir) error {
	if err := sys.MakeDirs(op.Path); err != nil || op.Mode == nil {
		return err
	}
	if err := sys.Chmod(op.Path, *op.Mode); err != nil {
		return session.WholeError("chmod: " + session.Reason(err))
	}
	return nil
}

// removeDir removes a directory; recursive removes all that is in it too. If a link is
// in the place of the directory, recursive removes the link itself.
func removeDir(op *wire.OpRemoveDir) error {
	if !op.Recursive {
		return sys.Rmdir(op.Path)
	}
	s, err := sys.Stat(op.Path, false)
	switch {
	case err != nil:
		return err
	case s.Type() == sys.ModeLink:
		return sys.Unlink(op.Path)
	case s.Type() != sys.ModeDir:
		return syscall.ENOTDIR
	}
	return sys.RemoveTree(op.Path)
}

// errNotCopied refuses a source that is no regular file: a device may have no end.
var errNotCopied = errors.New("the source path is neither a regular file nor a symlink to a regular file")

// copyFile copies contents and mode. A file that is copied onto itself stays as it is:
// truncating the target would empty the source.
func copyFile(op *wire.OpCopy) error {
	src, err := sys.OpenFile(op.Src, sys.Access{Read: true})
	if err != nil {
		return err
	}
	defer func() { _ = src.Close() }() // Read only: nothing to lose.
	from, err := sys.StatFile(src)
	if err != nil {
		return err
	}
	if from.Type() != sys.ModeRegular {
		return errNotCopied
	}
	dst, err := sys.OpenFile(op.Dst, sys.Access{Write: true, Create: true, Mode: from.Mode})
	if err != nil {
		return err
	}
	return errors.Join(copyContents(dst, src, &from), dst.Close())
}

// copyContents gives dst the contents and the mode of src.
func copyContents(dst, src *os.File, from *sys.FileStat) error {
	to, err := sys.StatFile(dst)
	if err != nil || (to.Device == from.Device && to.Node == from.Node) {
		return err
	}
	if to.Type() == sys.ModeRegular {
		if err := errors.Join(sys.Truncate(dst, 0), sys.ChmodFile(dst, from.Mode)); err != nil {
			return err
		}
	}
	const unit = 512 // Of FileStat.Blocks.
	if to.Type() == sys.ModeRegular && from.Blocks*unit < from.Size {
		return copyData(dst, src, from.Size)
	}
	_, err = io.Copy(dst, src) // The kernel copies where it can (copy_file_range(2)).
	return err
}

// copyData copies a file with holes, which stay holes. The copy ends where the file ends.
func copyData(dst, src *os.File, size uint64) error {
	for at := int64(0); ; {
		start, end, err := sys.NextData(src, at)
		if errors.Is(err, syscall.ENXIO) { // No data follows.
			return sys.Truncate(dst, int64(size))
		}
		if err != nil { // The file system does not tell its holes.
			start, end = at, math.MaxInt64
		}
		_, fromErr := src.Seek(start, io.SeekStart)
		_, toErr := dst.Seek(start, io.SeekStart)
		if err := errors.Join(fromErr, toErr); err != nil {
			return err
		}
		if _, err := io.CopyN(dst, src, end-start); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		at = end
	}
}

func stat(op *wire.OpStat) (wire.FSResult, error) {
	s, err := sys.Stat(op.Path, op.FollowSymlink)
	if err != nil {
		return nil, err
	}
	return &wire.ResultStat{Entry: entryWith(op.Path, &s, op.Exact)}, nil
}

func (h *handle) stat(exact bool) (wire.FSResult, error) {
	s, err := sys.StatFile(h.file)
	if err != nil {
		return nil, err
	}
	return &wire.ResultStat{Entry: entryWith(h.path, &s, exact)}, nil
}

// entryWith is entryOf, with what exact requests ask for.
func entryWith(name string, s *sys.FileStat, exact bool) wire.FSEntry {
	e := entryOf(name, s)
	if exact {
		e.Exact = []uint64{
			wire.ExactAtimeNsec: uint64(s.Atime.Nsec), wire.ExactMtimeNsec: uint64(s.Mtime.Nsec),
			wire.ExactCtime: uint64(s.Ctime.Sec), wire.ExactCtimeNsec: uint64(s.Ctime.Nsec),
			wire.ExactDevice: s.Device, wire.ExactInode: s.Node, wire.ExactLinks: s.Links, wire.ExactBlocks: s.Blocks,
		}
	}
	return e
}

// entryOf describes a file as the protocol does.
func entryOf(name string, s *sys.FileStat) wire.FSEntry {
	kind := wire.EntryOther
	switch s.Type() {
	case sys.ModeRegular:
		kind = wire.EntryFile
	case sys.ModeDir:
		kind = wire.EntryDir
	case sys.ModeLink:
		kind = wire.EntrySymlink
	}
	times := &[2]int64{s.Atime.Sec, s.Mtime.Sec} // One allocation: a listing has thousands.
	return wire.FSEntry{
		Path: name, Kind: kind, Size: s.Size, Mode: s.Mode, UID: s.UID, GID: s.GID,
		Modified: &times[1], Atime: &times[0], Mtime: &times[1],
	}
}
