package client

import (
	"cmp"
	"context"
	"io"
	"io/fs"
	"slices"

	"github.com/agentd-go/agentd/wire"
)

// pageLimit is how many entries are asked for at once. A name has at most 255
// bytes, of which each may be shown as three, its directory at most 4 KiB and the
// rest less than 128 bytes: 512 of them fit a frame. Our agent gives fewer.
const pageLimit = 512

// listing is what is known of a directory that is being read.
type listing struct {
	open   bool
	handle uint64 // Of OpenDir: that of OpenFile cannot be listed.
	shown  []*fileInfo
}

// ReadDir returns the next n entries in the directory's order, and io.EOF when
// there are none; all that are left, without an error, if n is not above 0. Names
// that are not UTF-8 have U+FFFD in them, may be equal and cannot be used.
func (f *File) ReadDir(n int) ([]fs.DirEntry, error) {
	return list(f, n, func(i *fileInfo) fs.DirEntry { return i })
}

// Readdir is ReadDir with a description of each file.
func (f *File) Readdir(n int) ([]fs.FileInfo, error) {
	return list(f, n, func(i *fileInfo) fs.FileInfo { return i })
}

// Readdirnames is ReadDir for the names alone.
func (f *File) Readdirnames(n int) ([]string, error) {
	return list(f, n, (*fileInfo).Name)
}

// list shows n entries, or all if n is not above 0.
func list[T any](f *File, n int, show func(*fileInfo) T) ([]T, error) {
	entries, err := f.list(n)
	if err != io.EOF { //nolint:errorlint // Ours, and bare.
		err = pathError("readdir", f.name, err)
	}
	all := make([]T, len(entries))
	for i, e := range entries {
		all[i] = show(e)
	}
	return all, err
}

func (f *File) list(n int) ([]*fileInfo, error) {
	f.dirMu.Lock()
	defer f.dirMu.Unlock()
	err := f.over()
	if err == nil {
		err = f.openDir()
	}
	if err == nil {
		err = f.pageUntil(n)
	}
	shown := f.dir.shown
	if n > 0 && n < len(shown) {
		shown = shown[:n:n]
	}
	f.dir.shown = f.dir.shown[len(shown):]
	if err == nil && n > 0 && len(shown) == 0 {
		err = io.EOF
	}
	return shown, err
}

// openDir opens the directory for listing, by its name.
func (f *File) openDir() error {
	if f.dir.open {
		return nil
	}
	handle, err := f.c.openHandle(f.reads, &wire.OpOpenDir{Path: f.name})
	f.dir.handle, f.dir.open = handle, err == nil
	return err
}

// pageUntil has n entries ready, or all if n is not above 0.
func (f *File) pageUntil(n int) error {
	for n <= 0 || len(f.dir.shown) < n {
		page, err := f.c.page(f.reads, f.dir.handle)
		if err != nil || len(page) == 0 {
			return err
		}
		f.dir.shown = append(f.dir.shown, page...)
	}
	return nil
}

// page asks for the next entries; none are the end.
func (c *Client) page(ctx context.Context, handle uint64) ([]*fileInfo, error) {
	limit := uint32(pageLimit)
	op := &wire.OpReadDir{Handle: handle, Limit: &limit, Exact: c.Has(ExtensionFiles)}
	r, err := returned[*wire.ResultList](c.operate(ctx, op))
	if err != nil {
		return nil, err
	}
	return newEntries(r.Entries), nil
}

// ReadDir returns a directory's entries, sorted by name; with an error, those that
// came before it. See [File.ReadDir] for names that are not UTF-8.
func (c *Client) ReadDir(ctx context.Context, name string) ([]fs.DirEntry, error) {
	handle, err := c.openHandle(ctx, &wire.OpOpenDir{Path: name})
	if err != nil {
		return nil, pathError("open", name, err)
	}
	defer c.abandon(&wire.OpCloseHandle{Handle: handle}) // Nothing to learn from its answer.
	var all []fs.DirEntry
	for {
		page, err := c.page(ctx, handle)
		for _, e := range page {
			all = append(all, e)
		}
		if err != nil || len(page) == 0 {
			slices.SortStableFunc(all, func(a, b fs.DirEntry) int { return cmp.Compare(a.Name(), b.Name()) })
			return all, pathError("readdir", name, err)
		}
	}
}
