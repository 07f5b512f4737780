package client

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"math"

	"github.com/agentd-go/agentd/wire"
)

// Archives reports whether [Client.Pack] and [Client.Unpack] can be used: they need the
// extension [ExtensionArchive], and raw records (see [Bulk]).
func (c *Client) Archives() bool { return c.Has(ExtensionArchive) && c.offer(1) != nil }

// canArchive returns an error unless Archives.
func (c *Client) canArchive() error {
	if c.Archives() {
		return nil
	}
	return &ExtensionError{Feature: "archives", Extension: ExtensionArchive}
}

// PackOptions say what of a directory [Client.Pack] packs.
type PackOptions struct {
	// Names are the members to pack, relative to the directory. Files below them are not packed.
	// Nil packs the whole tree.
	Names []string

	// After is a member after which the archive begins; "" is the beginning. Members are in
	// the order of the bytes of their names, directory by directory, so an interrupted
	// transfer goes on after the last member that came whole.
	After string

	// Exclude are patterns (see [path.Match]) of members that are left out with all that is
	// below them: of the whole name if the pattern has a slash, else of its last part.
	Exclude []string

	Bare      bool // Without contents. The record AGENTD.size of a file has its size.
	Xattrs    bool // With extended attributes.
	Links     bool // Further names of a file as hard links; otherwise each is a file of its own.
	Devices   bool // With devices and fifos; otherwise they are reported.
	OneDevice bool // Leaves out files on other file systems than the directory's.
}

// UnpackOptions say how [Client.Unpack] makes files.
type UnpackOptions struct {
	Owners  bool // Set the archive's owners; otherwise files are root's, or keep a replaced file's.
	Xattrs  bool // Set extended attributes.
	Devices bool // Make devices and fifos; otherwise they are reported.
	Replace bool // A directory may replace another file, and another file an empty directory.
}

// An ArchiveReport counts the members that were packed or unpacked, and names those that failed.
type ArchiveReport struct {
	Entries  uint64  // Members, directories included.
	Bytes    uint64  // Of contents, without holes.
	Problems []error // Members that were left out or are incomplete, each an [*fs.PathError]; the first ten.
	More     uint64  // How many more there were.
}

func reportOf(r wire.FSResult) ArchiveReport {
	a, ok := r.(*wire.ResultArchive)
	if !ok {
		return ArchiveReport{}
	}
	report := ArchiveReport{Entries: a.Entries, Bytes: a.Bytes, More: a.More}
	for _, p := range a.Problems {
		report.Problems = append(report.Problems, &fs.PathError{Op: p.Op, Path: p.Name, Err: newGuestError(p.Error)})
	}
	return report
}

// An Archive is the archive of a directory of the guest, in the PAX form of tar. It is read
// once, and closed.
type Archive struct {
	fetch  *fetch
	name   string
	unread []byte // The rest of a piece that Read has begun.
	last   int    // The length of the piece that Next has returned.
}

// Pack asks the guest for the archive of a directory; links in its name are followed. The
// guest may be hostile: the archive's names are as it sends them. The context bounds all
// reading.
func (c *Client) Pack(ctx context.Context, dir string, o PackOptions) (*Archive, error) {
	w, err := c.pack(ctx, dir, o)
	if err != nil {
		return nil, pathError("pack", dir, err)
	}
	return &Archive{fetch: w, name: dir}, nil
}

func (c *Client) pack(ctx context.Context, dir string, o PackOptions) (*fetch, error) {
	if err := c.canArchive(); err != nil {
		return nil, err
	}
	if o.Names != nil && len(o.Names) == 0 {
		return nil, errors.New("no names to pack")
	}
	req := &wire.FSRequest{Bulk: c.offer(math.MaxInt64), Op: &wire.OpPack{
		Path: dir, Names: o.Names, After: o.After, Exclude: o.Exclude, Bare: o.Bare,
		Xattrs: o.Xattrs, Links: o.Links, Devices: o.Devices, OneDevice: o.OneDevice,
	}}
	return c.fetch(ctx, req, math.MaxInt64)
}

// Next returns the next piece of the archive, which is valid until the next call. The error
// of the end is io.EOF.
func (a *Archive) Next() ([]byte, error) {
	p, err := a.next()
	if err == io.EOF { //nolint:errorlint // Ours, and bare.
		return nil, err
	}
	return p, pathError("pack", a.name, err)
}

func (a *Archive) next() ([]byte, error) {
	a.fetch.from.Consumed(a.last)
	p, err := a.fetch.next()
	a.last = len(p)
	return p, err
}

// Read reads the archive.
func (a *Archive) Read(p []byte) (int, error) {
	if len(a.unread) == 0 {
		var err error
		if a.unread, err = a.Next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, a.unread)
	a.unread = a.unread[n:]
	return n, nil
}

// Report returns the counts of the pack, after Next or Read has returned io.EOF.
func (a *Archive) Report() ArchiveReport {
	a.fetch.mu.Lock()
	defer a.fetch.mu.Unlock()
	return reportOf(a.fetch.result)
}

// Close ends the transfer if it goes on.
func (a *Archive) Close() error {
	_ = a.fetch.Close() // A stream's Close has no error.
	a.fetch.from.Cancel()
	return nil
}

// Unpack makes files from an archive beneath a directory of the guest, which is made if it
// does not exist. The archive is in the PAX form, with the forms of GNU tar for files with
// holes, and no other forms of GNU tar. A member gets its name when it is complete and on the
// machine's disk. Members that fail are in the report, and the others are unpacked.
func (c *Client) Unpack(ctx context.Context, dir string, from io.Reader, o UnpackOptions) (ArchiveReport, error) {
	r, err := c.unpack(ctx, dir, from, o)
	return r, pathError("unpack", dir, err)
}

func (c *Client) unpack(ctx context.Context, dir string, from io.Reader, o UnpackOptions) (r ArchiveReport, err error) {
	if err := c.canArchive(); err != nil {
		return r, err
	}
	op := &wire.OpUnpack{Path: dir, Owners: o.Owners, Xattrs: o.Xattrs, Devices: o.Devices, Replace: o.Replace}
	p, err := c.upload(ctx, &wire.FSRequest{Op: op, Bulk: c.offer(0)})
	if err != nil {
		return r, err
	}
	p.most = math.MaxInt64
	if err := p.pour(from); err != nil {
		p.abandon(err)
	}
	err = p.result()
	return reportOf(p.reply), err
}

// pour sends all bytes of a reader, and then the end. Only a bare io.EOF is the reader's end.
func (p *upload) pour(from io.Reader) error {
	for ended := false; !ended; {
		buf, n := make([]byte, wire.DataHead+bulkRecord), 0
		for !ended && n < bulkRecord {
			m, err := from.Read(buf[wire.DataHead+n:])
			if n += m; err != nil && err != io.EOF {
				return err
			}
			ended = err != nil
		}
		if err := p.send(buf, n); err != nil {
			return err
		}
	}
	b, err := p.c.encode(p.id, p.to.End())
	if err != nil {
		return err
	}
	_ = p.out.Send(b) // If it fails, the result says why.
	return nil
}

// send sends the n bytes after the head's room of buf, which the link owns from then on. If
// the guest has ended the session it does nothing: the result says why.
func (p *upload) send(buf []byte, n int) error {
	for data := buf[wire.DataHead : wire.DataHead+n]; len(data) > 0; {
		n, err := p.piece(p.out, buf, data, nil)
		if errors.Is(err, errOver) {
			return firstOf(p.result(), errUnexpected)
		}
		if err != nil {
			return err
		}
		if data = data[n:]; n > 0 {
			buf = nil
		}
	}
	return nil
}
