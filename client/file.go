package client

import (
	"context"
	"io"
	"io/fs"
	"os"
	"path"
	"sync"
	"sync/atomic"
	"time"

	"github.com/agentd-go/agentd/wire"
)

// closeTimeout is how long Close waits for an answer, whatever the file's context
// says: the agent's own bound for an operation that waits for a place.
const closeTimeout = 30 * time.Second

// A File is an open file or directory of the guest, in the shape of [os.File]. Its
// methods may be called from several goroutines; those that use its position wait
// for each other.
//
// The context that it was opened with bounds everything that is done with it,
// except Close.
//
// # Reading
//
// Read and WriteTo read ahead: 64 KiB at first, and two pieces of 1 MiB at most when
// reading goes on. So they may miss bytes that another process has written there a moment
// ago. ReadAt asks for exactly its bytes and is not affected. Reading ahead never blocks the
// link.
//
// With raw records (see [Bulk]) reading in a row asks for up to 64 MiB at once, twice,
// and at most 8 MiB of each are here or on their way before they are read.
//
// # Writing
//
// Write returns when its bytes are on their way. At most 2 MiB are on their way without an
// answer; with raw records as much as the agent has granted, usually 8 MiB. If they cannot
// be written, a later call returns the error: Write, Flush (which waits for all answers),
// Close, or any other method. WriteAt and ReadFrom wait for the answers themselves.
type File struct {
	c      *Client
	ctx    context.Context //nolint:containedctx // The methods of os.File have none.
	cancel context.CancelCauseFunc
	name   string // As it was given.
	base   string // Of FileInfo.
	handle uint64
	append bool

	closed    atomic.Bool
	reads     context.Context //nolint:containedctx // As ctx; Close ends it first.
	stopReads context.CancelCauseFunc

	mu  sync.Mutex
	pos int64
	in  reading
	out writing

	dirMu sync.Mutex
	dir   listing
}

// Open opens a file or directory for reading.
func (c *Client) Open(ctx context.Context, name string) (*File, error) {
	return c.OpenFile(ctx, name, os.O_RDONLY, 0)
}

// Create opens a file for reading and writing, made with 0666 before the guest's
// umask, or truncated.
func (c *Client) Create(ctx context.Context, name string) (*File, error) {
	const perm = 0o666
	return c.OpenFile(ctx, name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, perm)
}

// OpenFile opens a file with flags of package os: one of O_RDONLY, O_WRONLY and
// O_RDWR with any of O_APPEND, O_CREATE, O_EXCL and O_TRUNC. It refuses O_SYNC, which the
// protocol lacks. perm is the mode of a new file, before the guest's umask.
//
// ctx bounds the opening and everything that is done with the file.
func (c *Client) OpenFile(ctx context.Context, name string, flag int, perm fs.FileMode) (*File, error) {
	f, err := c.openFile(ctx, name, flag, perm)
	if err != nil {
		return nil, pathError("open", name, err)
	}
	return f, nil
}

func (c *Client) openFile(ctx context.Context, name string, flag int, perm fs.FileMode) (*File, error) {
	options, err := optionsOf(flag, perm)
	if err != nil {
		return nil, err
	}
	truncate := options.Append && options.Truncate // Agents refuse the two together.
	options.Truncate = options.Truncate && !options.Append
	handle, err := c.openHandle(ctx, &wire.OpOpenFile{Path: name, Options: options})
	if err != nil {
		return nil, err
	}
	f := &File{c: c, name: name, base: path.Base(name), handle: handle, append: options.Append}
	f.ctx, f.cancel = context.WithCancelCause(ctx)
	f.reads, f.stopReads = context.WithCancelCause(f.ctx)
	if truncate {
		if err := c.do(ctx, &wire.OpFSetStat{Handle: handle, Attrs: sizeAttrs(0)}); err != nil {
			_ = f.Close() // The error to tell is the first.
			return nil, err
		}
	}
	return f, nil
}

// optionsOf says in the protocol's words how to open a file.
func optionsOf(flag int, perm fs.FileMode) (o wire.OpenOptions, err error) {
	const access = os.O_RDONLY | os.O_WRONLY | os.O_RDWR
	if flag&^(access|os.O_APPEND|os.O_CREATE|os.O_EXCL|os.O_TRUNC) != 0 {
		return o, einval
	}
	mode := modeBits(perm)
	o = wire.OpenOptions{
		Read:      flag&access != os.O_WRONLY,
		Write:     flag&access != os.O_RDONLY,
		Append:    flag&os.O_APPEND != 0,
		Create:    flag&os.O_CREATE != 0,
		Truncate:  flag&os.O_TRUNC != 0,
		CreateNew: flag&os.O_CREATE != 0 && flag&os.O_EXCL != 0,
		Mode:      &mode,
	}
	if o.Append && !o.Write {
		return o, einval // Agents would take it for leave to write.
	}
	return o, nil
}

// openHandle opens a file or directory. If its context ends first, the file is closed when
// it opens.
func (c *Client) openHandle(ctx context.Context, op wire.FSOp) (uint64, error) {
	a, err := c.pose(ctx, &wire.FSRequest{Op: op}, c.request)
	if err != nil {
		return 0, err
	}
	select {
	case r := <-a.got:
		return handleOf(r)
	case <-ctx.Done():
		go func() {
			if late, err := handleOf(<-a.got); err == nil { // Does not block for ever: the link's end is an answer too.
				c.abandon(&wire.OpCloseHandle{Handle: late})
			}
		}()
		return 0, causeOf(ctx)
	}
}

func handleOf(r result) (uint64, error) {
	h, err := returned[*wire.ResultHandle](outcome(r))
	if err != nil {
		return 0, err
	}
	return h.Handle, nil
}

// abandon requests an operation and ignores its result.
func (c *Client) abandon(op wire.FSOp) {
	_, _ = c.pose(context.Background(), &wire.FSRequest{Op: op}, c.request)
}

// Name returns the name that the file was opened by.
func (f *File) Name() string { return f.name }

// Close closes the file after all writes have their answers; it waits 30 seconds at most for
// them. Reads that are under way end with [fs.ErrClosed].
func (f *File) Close() error {
	if f.closed.Swap(true) {
		return pathError("close", f.name, fs.ErrClosed)
	}
	f.stopReads(fs.ErrClosed)
	late := time.AfterFunc(closeTimeout, func() { f.cancel(fs.ErrClosed) })
	defer late.Stop()
	f.mu.Lock()
	err := f.out.flush()
	f.in.drop()
	f.mu.Unlock()
	return pathError("close", f.name, firstOf(err, f.release()))
}

// release gives the handles back, also when the file's context has ended.
func (f *File) release() error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(f.ctx), closeTimeout)
	defer cancel()
	f.cancel(fs.ErrClosed)
	f.dirMu.Lock()
	defer f.dirMu.Unlock()
	if f.dir.open {
		f.c.abandon(&wire.OpCloseHandle{Handle: f.dir.handle})
	}
	return f.c.do(ctx, &wire.OpCloseHandle{Handle: f.handle})
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// lock waits until no other call uses the file's position.
func (f *File) lock() (unlock func(), err error) {
	f.mu.Lock()
	if err := f.over(); err != nil {
		f.mu.Unlock()
		return nil, err
	}
	return f.mu.Unlock, nil
}

// over says why nothing more can be done with the file.
func (f *File) over() error {
	if f.closed.Load() {
		return fs.ErrClosed
	}
	return causeOf(f.ctx) // nil while it goes on.
}

// settle waits until the guest's file has the effect of all calls so far.
func (f *File) settle() error {
	unlock, err := f.lock()
	if err != nil {
		return err
	}
	defer unlock()
	return f.out.flush()
}

// Flush waits until all written bytes are in the guest's file: every process of the guest
// can read them then. They need not be on a disk, see [File.Sync].
func (f *File) Flush() error { return pathError("flush", f.name, f.settle()) }

// Sync waits until all written bytes are in the guest's file, and the file is on its disk. An
// agent without [ExtensionFiles] cannot sync a file: Sync then returns an [*ExtensionError]
// after the bytes are in the file.
func (f *File) Sync() error {
	_, err := f.fileCall(wire.CallSync, 0)
	return pathError("sync", f.name, err)
}

// Stat describes the open file.
func (f *File) Stat() (fs.FileInfo, error) {
	info, err := f.stat()
	if err != nil {
		return nil, pathError("stat", f.name, err)
	}
	return info, nil
}

func (f *File) stat() (*fileInfo, error) {
	if err := f.settle(); err != nil {
		return nil, err
	}
	s, err := returned[*wire.ResultStat](f.c.operate(f.ctx, &wire.OpFStat{Handle: f.handle, Exact: f.c.Has(ExtensionFiles)}))
	if err != nil {
		return nil, err
	}
	return &fileInfo{name: f.base, entry: s.Entry}, nil
}

// Seek sets the position of the next Read or Write.
func (f *File) Seek(offset int64, whence int) (int64, error) {
	pos, err := f.seek(offset, whence)
	return pos, pathError("seek", f.name, err)
}

func (f *File) seek(offset int64, whence int) (int64, error) {
	if whence == io.SeekEnd {
		info, err := f.stat()
		if err != nil {
			return 0, err
		}
		offset += info.Size()
	}
	unlock, err := f.lock()
	if err != nil {
		return 0, err
	}
	defer unlock()
	if whence == io.SeekCurrent {
		offset += f.pos
	}
	if offset < 0 || whence < io.SeekStart || whence > io.SeekEnd {
		return 0, einval
	}
	if offset == f.pos {
		return offset, nil // The position is the same: keep the bytes that were read ahead.
	}
	f.in.drop()
	if err := f.out.flush(); err != nil {
		return 0, err
	}
	f.pos = offset
	return offset, nil
}

// Chmod changes the file's permissions.
func (f *File) Chmod(mode fs.FileMode) error {
	return pathError("chmod", f.name, f.setStat(modeAttrs(mode)))
}

// Chown changes the file's owner and group; -1 leaves one as it is.
func (f *File) Chown(uid, gid int) error {
	return pathError("chown", f.name, f.setStat(ownerAttrs(uid, gid)))
}

// Chtimes changes the file's times, as [Client.Chtimes] does; a zero time leaves one as it is.
func (f *File) Chtimes(atime, mtime time.Time) error {
	return pathError("chtimes", f.name, f.setStat(f.c.timeAttrs(atime, mtime)))
}

// Describe is Chmod and Chtimes in one operation, for programs that copy many files. A
// zero time leaves the time as it is.
func (f *File) Describe(mode fs.FileMode, mtime time.Time) error {
	a := f.c.timeAttrs(time.Time{}, mtime)
	a.Mode = modeAttrs(mode).Mode
	return pathError("setstat", f.name, f.setStat(a))
}

// Truncate changes the file's size.
func (f *File) Truncate(size int64) error {
	if size < 0 {
		return pathError("truncate", f.name, einval)
	}
	return pathError("truncate", f.name, f.setStat(sizeAttrs(size)))
}

// setStat changes attributes when everything written so far has arrived.
func (f *File) setStat(a wire.FSAttrs) error {
	unlock, err := f.lock()
	if err != nil {
		return err
	}
	defer unlock()
	f.in.drop()
	if err := f.out.flush(); err != nil {
		return err
	}
	return f.c.do(f.ctx, &wire.OpFSetStat{Handle: f.handle, Attrs: a})
}

// givenUp calls end with the cause when ctx ends, unless stop is called first. It does not
// call end before asked is called: ctx may have ended already, and a request that was not
// sent must not be given up.
func givenUp(ctx context.Context, end func(why error)) (stop func() bool, asked func()) {
	begun := make(chan struct{})
	stop = context.AfterFunc(ctx, func() {
		<-begun
		end(causeOf(ctx))
	})
	return stop, func() { close(begun) }
}
