package client

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"sync"

	"github.com/agentd-go/agentd/wire"
)

// ErrChanged says that a name is another file's now, or that its size or time of modification
// is another, so that the bytes before and after a link's end may not fit together.
var ErrChanged = errors.New("the file has changed since it was opened")

// A ResumedFile is a file of the guest that is read over one link after the other. After the
// end of a link it is opened again by its name, and read from where it was; it must have the
// size and the time of modification that it had, else the error is [ErrChanged]. An agent with
// [ExtensionFiles] says so to the nanosecond, and for the same file; others to the second.
type ResumedFile struct {
	r    *Reconnector
	ctx  context.Context //nolint:containedctx // As of a [File].
	name string
	info *fileInfo

	mu     sync.Mutex // Held by the methods that use the position.
	file   *File
	pos    int64
	closed bool
}

// Open opens a file for reading. The context bounds everything that is done with it.
func (r *Reconnector) Open(ctx context.Context, name string) (*ResumedFile, error) {
	f := &ResumedFile{r: r, ctx: ctx, name: name}
	if err := f.repeat(func() error { return nil }); err != nil {
		return nil, err
	}
	return f, nil
}

// open opens the file by the client of the moment.
func (f *ResumedFile) open() error {
	c, err := f.r.Client(f.ctx)
	if err != nil {
		return pathError("open", f.name, err)
	}
	file, err := c.Open(f.ctx, f.name)
	if err != nil {
		return err
	}
	if err := f.check(file); err != nil {
		_ = file.Close() // The error to tell is the first.
		return err
	}
	f.file = file
	return nil
}

// check compares an opened file with the one before, and sets the position.
func (f *ResumedFile) check(file *File) error {
	info, err := file.stat()
	if err != nil {
		return pathError("stat", f.name, err)
	}
	if f.info != nil && !f.info.same(info) {
		return pathError("open", f.name, ErrChanged)
	}
	f.info = info
	_, err = file.Seek(f.pos, io.SeekStart)
	return err
}

// same reports whether a file is the one that it was, as far as the agent says.
func (i *fileInfo) same(now *fileInfo) bool {
	before, after := i.exact(), now.exact()
	return before[wire.ExactDevice] == after[wire.ExactDevice] && before[wire.ExactInode] == after[wire.ExactInode] &&
		i.Size() == now.Size() && i.ModTime().Equal(now.ModTime()) && i.Type() == now.Type()
}

// repeat calls do, and again on the next link if the link has ended.
func (f *ResumedFile) repeat(do func() error) error {
	for {
		var err error
		if f.file == nil {
			err = f.open()
		}
		if err == nil {
			err = do()
		}
		if !LinkEnded(err) {
			return err
		}
		f.drop()
	}
}

// drop gives up the file of a link that has ended.
func (f *ResumedFile) drop() {
	if f.file != nil {
		_ = f.file.Close() // Says that the link has ended.
		f.file = nil
	}
}

// locked calls repeat while no other call uses the position.
func (f *ResumedFile) locked(do func() error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return pathError("read", f.name, fs.ErrClosed)
	}
	return f.repeat(do)
}

// Read reads at the file's position.
func (f *ResumedFile) Read(p []byte) (n int, err error) {
	err = f.locked(func() error {
		n, err = f.file.Read(p)
		f.pos += int64(n)
		if n > 0 && LinkEnded(err) {
			f.drop() // The next call goes on.
			return nil
		}
		return err
	})
	return n, err
}

// WriteTo writes the rest of the file to w.
func (f *ResumedFile) WriteTo(w io.Writer) (total int64, err error) {
	own := &failing{w: w}
	err = f.locked(func() error {
		n, err := f.file.WriteTo(own)
		f.pos += n
		total += n
		return hideIf(own.err, err)
	})
	return total, shown(err)
}

// failing notes the error of a caller's reader or writer: it may be the end of another link.
type failing struct {
	io.Reader
	w   io.Writer
	err error
}

func (f *failing) Write(p []byte) (n int, err error) {
	n, f.err = f.w.Write(p)
	return n, f.err
}

func (f *failing) Read(p []byte) (n int, err error) {
	n, err = f.Reader.Read(p)
	f.err = noEOF(err)
	return n, err
}

// A callersError hides an error from LinkEnded.
type callersError struct{ err error }

func (e *callersError) Error() string { return e.err.Error() }

// hideIf returns the caller's own error, hidden, or else err.
func hideIf(own, err error) error {
	if own != nil {
		return &callersError{own}
	}
	return err
}

// shown undoes hideIf.
func shown(err error) error {
	if own, ok := err.(*callersError); ok { //nolint:errorlint // Ours, and bare.
		return own.err
	}
	return err
}

// Seek sets the position of the next Read.
func (f *ResumedFile) Seek(offset int64, whence int) (pos int64, err error) {
	err = f.locked(func() error {
		pos, err = f.file.Seek(offset, whence)
		if err == nil {
			f.pos = pos
		}
		return err
	})
	return pos, err
}

// Stat describes the file as it was when it was opened first.
func (f *ResumedFile) Stat() (fs.FileInfo, error) { return f.info, nil }

// Name returns the name that the file was opened by.
func (f *ResumedFile) Name() string { return f.name }

// Close closes the file. The end of the link is no error: the guest has closed it then.
func (f *ResumedFile) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	file := f.file
	if f.closed {
		return pathError("close", f.name, fs.ErrClosed)
	}
	f.closed, f.file = true, nil
	if file == nil {
		return nil
	}
	if err := file.Close(); !LinkEnded(err) {
		return err
	}
	return nil
}

// ReopenPart opens a file for writing that was written in order by [Client.CreatePart] over a
// link that has ended. at is its length: the bytes before it have arrived, and those from
// there on are to be written again. The position is at that length.
func (c *Client) ReopenPart(ctx context.Context, name string) (f *File, at int64, err error) {
	f, err = c.OpenFile(ctx, name, os.O_WRONLY, 0)
	if err != nil {
		return nil, 0, err
	}
	f.out.inOrder = true
	if at, err = f.Seek(0, io.SeekEnd); err != nil {
		_ = f.Close() // The error to tell is the first.
		return nil, 0, err
	}
	return f, at, nil
}

// CreatePart makes a new file, which must not exist, for writing in order. Its length in the
// guest says how much of it has arrived, so that [Client.ReopenPart] can go on there.
func (c *Client) CreatePart(ctx context.Context, name string, perm fs.FileMode) (*File, error) {
	f, err := c.OpenFile(ctx, name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err == nil {
		f.out.inOrder = true
	}
	return f, err
}

// Upload writes the bytes of a reader, from its position on, to a file of the guest. The file
// gets its name when it is complete; a file that has the name is replaced. When a link ends it goes on, on the next one,
// at the length that the guest has. The number of bytes that were written is returned.
func (r *Reconnector) Upload(ctx context.Context, name string, from io.ReadSeeker, perm fs.FileMode) (int64, error) {
	start, err := from.Seek(0, io.SeekCurrent)
	if err != nil {
		return 0, err
	}
	u := &uploading{r: r, ctx: ctx, name: name, from: from, start: start, perm: perm, part: path.Join(path.Dir(name), ".part-"+rand.Text())}
	n, err := u.run()
	if _, gaveUp := errors.AsType[*ReconnectError](err); err != nil && !gaveUp {
		u.remove()
	}
	return n, err
}

// An uploading is the state of an Upload between two links.
type uploading struct {
	r          *Reconnector
	ctx        context.Context //nolint:containedctx // Of one call.
	name, part string
	from       io.ReadSeeker
	start      int64
	perm       fs.FileMode
	made       bool // The part may be there.
	renaming   bool // The part may have its name.
}

func (u *uploading) run() (int64, error) {
	for {
		c, err := u.r.Client(u.ctx)
		if err != nil {
			return 0, pathError("upload", u.name, err)
		}
		n, err := u.write(c)
		if !LinkEnded(err) {
			return n, shown(err)
		}
	}
}

// write writes the bytes that the guest does not have, and gives the file its name.
func (u *uploading) write(c *Client) (int64, error) {
	f, at, err := u.open(c)
	if u.renaming && errors.Is(err, fs.ErrNotExist) {
		info, err := c.Stat(u.ctx, u.name) // The rename had arrived.
		if err != nil {
			return 0, err
		}
		return info.Size(), nil
	}
	if err != nil {
		return 0, err
	}
	if _, err = u.from.Seek(u.start+at, io.SeekStart); err != nil {
		return 0, errors.Join(err, f.Close())
	}
	from := &failing{Reader: u.from}
	n, err := f.ReadFrom(from)
	if err = hideIf(from.err, firstOf(err, f.Close())); err != nil {
		return 0, err
	}
	u.renaming = true
	return at + n, c.Rename(u.ctx, u.part, u.name)
}

func (u *uploading) open(c *Client) (f *File, at int64, err error) {
	if u.made {
		f, at, err = c.ReopenPart(u.ctx, u.part)
		if u.renaming || !errors.Is(err, fs.ErrNotExist) {
			return f, at, err
		}
	}
	u.made = true
	f, err = c.CreatePart(u.ctx, u.part, u.perm)
	return f, 0, err
}

// remove removes the part, if the link is there.
func (u *uploading) remove() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(u.ctx), closeTimeout)
	defer cancel()
	if c, err := u.r.Client(ctx); err == nil && u.made {
		_ = c.Remove(ctx, u.part) // The error to tell is the first.
	}
}
