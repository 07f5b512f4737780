package client

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/agentd-go/agentd/wire"
)

// The methods of this file need [ExtensionFiles]. Without it they send nothing and return an
// error that wraps an [*ExtensionError].

// call makes a call on a path.
func (c *Client) call(ctx context.Context, op wire.OpCall) (*wire.ResultCall, error) {
	if err := c.needs(ExtensionFiles, op.Call); err != nil {
		return nil, err
	}
	return returned[*wire.ResultCall](c.operate(ctx, &op))
}

// Link gives a file the second name newName, as [os.Link] does. A link in the place of
// oldName is not followed.
func (c *Client) Link(ctx context.Context, oldName, newName string) error {
	_, err := c.call(ctx, wire.OpCall{Call: wire.CallLink, Path: oldName, Other: newName})
	return linkError("link", oldName, newName, err)
}

// Getxattr returns an extended attribute of a file, links followed. The error is ENODATA if
// the file does not have it.
func (c *Client) Getxattr(ctx context.Context, name, attr string) ([]byte, error) {
	return c.xattr(ctx, wire.OpCall{Call: wire.CallGetXattr, Path: name, FollowSymlink: true, Other: attr})
}

// Lgetxattr is Getxattr for a link itself.
func (c *Client) Lgetxattr(ctx context.Context, name, attr string) ([]byte, error) {
	return c.xattr(ctx, wire.OpCall{Call: wire.CallGetXattr, Path: name, Other: attr})
}

// Setxattr sets an extended attribute of a file, links followed.
func (c *Client) Setxattr(ctx context.Context, name, attr string, value []byte) error {
	_, err := c.xattr(ctx, wire.OpCall{Call: wire.CallSetXattr, Path: name, FollowSymlink: true, Other: attr, Value: value})
	return err
}

// Lsetxattr is Setxattr for a link itself.
func (c *Client) Lsetxattr(ctx context.Context, name, attr string, value []byte) error {
	_, err := c.xattr(ctx, wire.OpCall{Call: wire.CallSetXattr, Path: name, Other: attr, Value: value})
	return err
}

// Removexattr removes an extended attribute of a file, links followed.
func (c *Client) Removexattr(ctx context.Context, name, attr string) error {
	_, err := c.xattr(ctx, wire.OpCall{Call: wire.CallRemoveXattr, Path: name, FollowSymlink: true, Other: attr})
	return err
}

// Lremovexattr is Removexattr for a link itself.
func (c *Client) Lremovexattr(ctx context.Context, name, attr string) error {
	_, err := c.xattr(ctx, wire.OpCall{Call: wire.CallRemoveXattr, Path: name, Other: attr})
	return err
}

// Listxattr returns the names of a file's extended attributes, sorted, links followed.
func (c *Client) Listxattr(ctx context.Context, name string) ([]string, error) {
	b, err := c.xattr(ctx, wire.OpCall{Call: wire.CallListXattr, Path: name, FollowSymlink: true})
	return namesIn(b), err
}

// Llistxattr is Listxattr for a link itself.
func (c *Client) Llistxattr(ctx context.Context, name string) ([]string, error) {
	b, err := c.xattr(ctx, wire.OpCall{Call: wire.CallListXattr, Path: name})
	return namesIn(b), err
}

// namesIn are names that each have a NUL after them.
func namesIn(b []byte) []string {
	all := slices.DeleteFunc(strings.Split(string(b), "\x00"), func(s string) bool { return s == "" })
	slices.Sort(all)
	return all
}

func (c *Client) xattr(ctx context.Context, op wire.OpCall) ([]byte, error) {
	r, err := c.call(ctx, op)
	if err != nil {
		return nil, pathError(op.Call, op.Path, err)
	}
	return r.Value, nil
}

// An FSStat describes a file system of the guest, as statfs(2) does.
type FSStat struct {
	Kind      uint64 // Its magic number (linux/magic.h), such as 0xef53 for ext4.
	Block     uint64 // The unit of Blocks, Free and Available, in bytes.
	Blocks    uint64 // Of the whole file system.
	Free      uint64 // Blocks that nothing uses.
	Available uint64 // Free, without what only root may use.
	Files     uint64 // Inodes; 0 if they have no limit.
	FreeFiles uint64 // Inodes that nothing uses.
	MaxName   uint64 // The longest name of a file in bytes.
	ReadOnly  bool
}

// StatFS describes the file system that a file is on.
func (c *Client) StatFS(ctx context.Context, name string) (FSStat, error) {
	r, err := c.call(ctx, wire.OpCall{Call: wire.CallStatFS, Path: name})
	if err == nil && len(r.Numbers) < int(wire.FSNumbers) {
		err = errUnexpected
	}
	if err != nil {
		return FSStat{}, pathError("statfs", name, err)
	}
	n := r.Numbers
	return FSStat{
		Kind: n[wire.FSKind], Block: n[wire.FSBlock], Blocks: n[wire.FSBlocks], Free: n[wire.FSFree],
		Available: n[wire.FSAvailable], Files: n[wire.FSFiles], FreeFiles: n[wire.FSFreeFiles],
		MaxName: n[wire.FSMaxName], ReadOnly: n[wire.FSReadOnly] != 0,
	}, nil
}

// A LockMode is the mode of a file's lock.
type LockMode int

// The modes.
const (
	LockShared    LockMode = 1 + iota // Beside other shared locks.
	LockExclusive                     // Beside no other lock.
)

// name is the call that takes a lock of the mode.
func (m LockMode) name() wire.CallName {
	if m == LockExclusive {
		return wire.CallLockExclusive
	}
	return wire.CallLockShared
}

// Lock takes the advisory lock of the file (flock(2)), and waits for it until the file's
// context ends. Programs of the guest and other open files see it. The lock goes with
// Unlock, with Close, and with this client. A file that has a lock changes its mode; it has
// no lock while it waits for the other mode.
func (f *File) Lock(mode LockMode) error {
	for {
		taken, err := f.fileCall(mode.name(), wire.MaxLockWait)
		if taken || err != nil {
			return pathError("lock", f.name, err)
		}
	}
}

// TryLock is Lock without waiting. It reports whether the lock was taken.
func (f *File) TryLock(mode LockMode) (bool, error) {
	taken, err := f.fileCall(mode.name(), 0)
	return taken, pathError("lock", f.name, err)
}

// Unlock releases the lock. It is no error if the file has none.
func (f *File) Unlock() error {
	_, err := f.fileCall(wire.CallUnlock, 0)
	return pathError("unlock", f.name, err)
}

// fileCall makes a call on the file. A lock that the agent gives after the file's context has
// ended is released at once.
func (f *File) fileCall(call wire.CallName, wait uint32) (done bool, err error) {
	if err := f.settle(); err != nil {
		return false, err
	}
	if err := f.c.needs(ExtensionFiles, call); err != nil {
		return false, err
	}
	op := &wire.OpFileCall{Call: call, Handle: f.handle, Wait: wait}
	a, err := f.c.pose(f.ctx, &wire.FSRequest{Op: op}, f.c.request)
	if err != nil {
		return false, err
	}
	select {
	case r := <-a.got:
		_, err := outcome(r)
		if over := f.over(); err != nil && over != nil {
			err = over
		}
		if refused, ok := errors.AsType[*GuestError](err); ok && refused.Errno == eagain {
			return false, nil
		}
		return err == nil, err
	case <-f.ctx.Done():
		go f.undoLock(a)
		return false, causeOf(f.ctx)
	}
}

// undoLock releases a lock that comes too late. The file's number may be gone, with the lock.
func (f *File) undoLock(a *answer) {
	if _, err := outcome(<-a.got); err == nil {
		f.c.abandon(&wire.OpFileCall{Handle: f.handle, Call: wire.CallUnlock})
	}
}
