package client

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"time"

	"github.com/agentd-go/agentd/wire"
)

// pathError says what was done to what, as package os does; nil stays nil.
func pathError(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// linkError is pathError for an operation on two names.
func linkError(op, from, to string, err error) error {
	if err == nil {
		return nil
	}
	return &os.LinkError{Op: op, Old: from, New: to, Err: err}
}

// operate asks for one operation on files and returns what it returns.
func (c *Client) operate(ctx context.Context, op wire.FSOp) (wire.FSResult, error) {
	a, err := c.pose(ctx, &wire.FSRequest{Op: op}, c.request)
	if err != nil {
		return nil, err
	}
	defer c.calls.remove(a.id, a) // An agent that answers later finds nobody.
	select {
	case r := <-a.got:
		return outcome(r)
	case <-ctx.Done():
		return nil, causeOf(ctx)
	}
}

// request queues the frame that begins a session, on an outbox of its own. It never waits:
// a caller sends its next request after the answer.
func (c *Client) request(b []byte) error {
	if c.writer.Outbox(0).Put(b) != nil {
		return c.reason()
	}
	return nil
}

// farewell queues the frame that gives a session up. It ignores errors: the link may have
// ended.
func (c *Client) farewell(id uint32, m wire.Message) {
	if b, err := c.encode(id, m); err == nil {
		_ = c.writer.Outbox(0).Put(b)
	}
}

// outcome returns an operation's result, or the guest's refusal.
func outcome(r result) (wire.FSResult, error) {
	reply, err := expected[*wire.FSResponse](r)
	if err != nil {
		return nil, err
	}
	return reply.Data, verdict(reply)
}

// verdict is nil or the guest's refusal.
func verdict(m *wire.FSResponse) error {
	switch {
	case m.OK:
		return nil
	case m.Error == nil:
		return newGuestError("refused without a reason")
	default:
		return newGuestError(*m.Error)
	}
}

// do asks for an operation that returns nothing.
func (c *Client) do(ctx context.Context, op wire.FSOp) error {
	_, err := c.operate(ctx, op)
	return err
}

// returned is the result of the kind that the operation has.
func returned[T wire.FSResult](r wire.FSResult, err error) (T, error) {
	var none T
	if err != nil {
		return none, err
	}
	if t, ok := r.(T); ok {
		return t, nil
	}
	return none, &FrameError{Type: string(wire.TypeFSResponse), Err: errUnexpected}
}

// Stat describes a file, links followed.
func (c *Client) Stat(ctx context.Context, name string) (fs.FileInfo, error) {
	return found(c.stat(ctx, "stat", name, true))
}

// Lstat describes a file or, if it is a link, the link.
func (c *Client) Lstat(ctx context.Context, name string) (fs.FileInfo, error) {
	return found(c.stat(ctx, "lstat", name, false))
}

// found is a description without the pitfall of a nil pointer in an interface.
func found(info *fileInfo, err error) (fs.FileInfo, error) {
	if err != nil {
		return nil, err
	}
	return info, nil
}

func (c *Client) stat(ctx context.Context, op, name string, follow bool) (*fileInfo, error) {
	s, err := returned[*wire.ResultStat](c.operate(ctx, c.statOp(name, follow)))
	if err != nil {
		return nil, pathError(op, name, err)
	}
	return &fileInfo{name: path.Base(name), entry: s.Entry}, nil
}

// statOp asks for a description, as exact as the agent can.
func (c *Client) statOp(name string, follow bool) *wire.OpStat {
	return &wire.OpStat{Path: name, FollowSymlink: follow, Exact: c.Has(ExtensionFiles)}
}

// ReadLink returns the target of a symbolic link. Bytes that are not UTF-8 are shown as
// U+FFFD.
func (c *Client) ReadLink(ctx context.Context, name string) (string, error) {
	return c.pathOf(ctx, "readlink", name, &wire.OpReadLink{Path: name})
}

// RealPath resolves all links of a path. Its last name need not exist.
func (c *Client) RealPath(ctx context.Context, name string) (string, error) {
	return c.pathOf(ctx, "realpath", name, &wire.OpRealPath{Path: name})
}

// pathOf does an operation on name that returns a path.
func (c *Client) pathOf(ctx context.Context, op, name string, request wire.FSOp) (string, error) {
	r, err := returned[*wire.ResultPath](c.operate(ctx, request))
	if err != nil {
		return "", pathError(op, name, err)
	}
	return r.Path, nil
}

// Mkdir makes a directory with exactly these permissions: the guest's umask is not applied.
// The protocol has only MkdirAll, so a concurrent creation of the same directory may go
// undetected.
func (c *Client) Mkdir(ctx context.Context, name string, perm fs.FileMode) error {
	return pathError("mkdir", name, c.mkdir(ctx, name, perm))
}

func (c *Client) mkdir(ctx context.Context, name string, perm fs.FileMode) error {
	_, err := c.operate(ctx, &wire.OpStat{Path: name})
	if err == nil {
		return eexist
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := path.Dir(path.Clean("/" + name))
	if _, err := c.operate(ctx, &wire.OpStat{Path: parent, FollowSymlink: true}); err != nil {
		return err
	}
	return c.makeDirs(ctx, name, perm)
}

func (c *Client) makeDirs(ctx context.Context, name string, perm fs.FileMode) error {
	mode := modeBits(perm)
	return c.do(ctx, &wire.OpMkdir{Path: name, Mode: &mode})
}

// MkdirAll makes a directory with these permissions, and its parents with 0755.
// One that exists stays as it is.
func (c *Client) MkdirAll(ctx context.Context, name string, perm fs.FileMode) error {
	s, err := returned[*wire.ResultStat](c.operate(ctx, &wire.OpStat{Path: name, FollowSymlink: true}))
	switch {
	case err == nil && s.Entry.Kind == wire.EntryDir:
		return nil
	case err == nil:
		err = enotdir
	case errors.Is(err, fs.ErrNotExist):
		err = c.makeDirs(ctx, name, perm)
	}
	return pathError("mkdir", name, err)
}

// Remove removes a file or an empty directory.
func (c *Client) Remove(ctx context.Context, name string) error {
	err := c.do(ctx, &wire.OpRemove{Path: name})
	if errors.Is(err, eisdir) || errors.Is(err, eperm) { // What unlink(2) says of a directory.
		if second := c.do(ctx, &wire.OpRemoveDir{Path: name}); !errors.Is(second, enotdir) {
			err = second
		}
	}
	return pathError("remove", name, err)
}

// RemoveAll removes a file, or a directory with all that is in it. It follows no links. A
// name that does not exist is no error.
func (c *Client) RemoveAll(ctx context.Context, name string) error {
	err := c.do(ctx, &wire.OpRemoveDir{Path: name, Recursive: true})
	if errors.Is(err, enotdir) {
		err = c.do(ctx, &wire.OpRemove{Path: name})
	}
	if errors.Is(err, enoent) {
		return nil
	}
	return pathError("removeall", name, err)
}

// Rename renames a file. A file that has newName is replaced.
func (c *Client) Rename(ctx context.Context, oldName, newName string) error {
	err := c.do(ctx, &wire.OpRename{Src: oldName, Dst: newName})
	return linkError("rename", oldName, newName, err)
}

// Symlink makes newName a symbolic link to oldName.
func (c *Client) Symlink(ctx context.Context, oldName, newName string) error {
	err := c.do(ctx, &wire.OpSymlink{Target: oldName, LinkPath: newName})
	return linkError("symlink", oldName, newName, err)
}

// Copy copies the contents and permissions of a regular file inside the guest. With
// [ExtensionFiles] its holes stay holes.
func (c *Client) Copy(ctx context.Context, from, to string) error {
	return linkError("copy", from, to, c.do(ctx, &wire.OpCopy{Src: from, Dst: to}))
}

// Chmod changes the permissions of a file, and setuid, setgid and sticky.
func (c *Client) Chmod(ctx context.Context, name string, mode fs.FileMode) error {
	return pathError("chmod", name, c.setStat(ctx, name, true, modeAttrs(mode)))
}

// Chown changes the owner and group of a file, as numbers of the guest; -1 leaves
// one as it is.
func (c *Client) Chown(ctx context.Context, name string, uid, gid int) error {
	return pathError("chown", name, c.setStat(ctx, name, true, ownerAttrs(uid, gid)))
}

// Lchown is Chown for a link itself.
func (c *Client) Lchown(ctx context.Context, name string, uid, gid int) error {
	return pathError("lchown", name, c.setStat(ctx, name, false, ownerAttrs(uid, gid)))
}

// Chtimes changes the times of a file: to the nanosecond with [ExtensionFiles], otherwise to
// the second. A zero time leaves one as it is.
func (c *Client) Chtimes(ctx context.Context, name string, atime, mtime time.Time) error {
	return pathError("chtimes", name, c.setStat(ctx, name, true, c.timeAttrs(atime, mtime)))
}

// Lchtimes is Chtimes for a link itself.
func (c *Client) Lchtimes(ctx context.Context, name string, atime, mtime time.Time) error {
	return pathError("lchtimes", name, c.setStat(ctx, name, false, c.timeAttrs(atime, mtime)))
}

// Truncate changes the size of a file.
func (c *Client) Truncate(ctx context.Context, name string, size int64) error {
	if size < 0 {
		return pathError("truncate", name, einval)
	}
	return pathError("truncate", name, c.setStat(ctx, name, true, sizeAttrs(size)))
}

// Sync makes the guest sync the file system of a directory to its disk, and waits for it:
// the data then survives the killing of the machine. Directories that the host shares need
// no sync. The published agents have no such operation and do nothing; there is no error
// then.
func (c *Client) Sync(ctx context.Context, dir string) error {
	return pathError("sync", dir, c.setStat(ctx, dir, true, wire.FSAttrs{}))
}

func (c *Client) setStat(ctx context.Context, name string, follow bool, a wire.FSAttrs) error {
	return c.do(ctx, &wire.OpSetStat{Path: name, FollowSymlink: follow, Attrs: a})
}

func modeAttrs(mode fs.FileMode) wire.FSAttrs {
	bits := modeBits(mode)
	return wire.FSAttrs{Mode: &bits}
}

func ownerAttrs(uid, gid int) (a wire.FSAttrs) {
	a.UID, a.GID = owner(uid), owner(gid)
	return a
}

func owner(id int) *uint32 {
	if id == -1 {
		return nil
	}
	n := uint32(id)
	return &n
}

func (c *Client) timeAttrs(atime, mtime time.Time) (a wire.FSAttrs) {
	a.Atime, a.Mtime = seconds(atime), seconds(mtime)
	if c.Has(ExtensionFiles) {
		a.AtimeNsec, a.MtimeNsec = nanoseconds(atime), nanoseconds(mtime)
	}
	return a
}

// nanoseconds is the part of a time beside its seconds, or nil for the zero time.
func nanoseconds(t time.Time) *uint32 {
	if t.IsZero() {
		return nil
	}
	n := uint32(t.Nanosecond())
	return &n
}

func seconds(t time.Time) *int64 {
	if t.IsZero() {
		return nil
	}
	s := t.Unix()
	return &s
}

func sizeAttrs(size int64) wire.FSAttrs {
	n := uint64(size)
	return wire.FSAttrs{Size: &n}
}
