package client

import (
	"context"
	"io/fs"
	"path"
)

// An FS has the guest's files below one directory, in the shape of package io/fs. Names are
// unrooted, slash-separated and without "..". Links may lead out of the directory, so an
// FS is no security boundary.
//
// It is an [fs.ReadDirFS], [fs.ReadFileFS], [fs.StatFS], [fs.ReadLinkFS] and
// [fs.SubFS]. The files that Open returns are a [*File].
type FS struct {
	c   *Client
	ctx context.Context //nolint:containedctx // The methods of package fs have none.
	dir string
}

// FS returns the guest's root directory.
func (c *Client) FS() *FS { return &FS{c: c, ctx: context.Background(), dir: "/"} }

// WithContext returns the same files. Every operation on them, also on opened files, ends
// with ctx.
func (f *FS) WithContext(ctx context.Context) *FS {
	return &FS{c: f.c, ctx: ctx, dir: f.dir}
}

// Sub returns the files below a directory, which need not exist yet.
func (f *FS) Sub(dir string) (fs.FS, error) {
	full, err := f.full("sub", dir)
	if err != nil {
		return nil, err
	}
	return &FS{c: f.c, ctx: f.ctx, dir: full}, nil
}

// full is the guest's path of a name.
func (f *FS) full(op, name string) (string, error) {
	if !fs.ValidPath(name) {
		return "", pathError(op, name, fs.ErrInvalid)
	}
	return path.Join(f.dir, name), nil
}

// Open opens a file or directory for reading.
func (f *FS) Open(name string) (fs.File, error) {
	full, err := f.full("open", name)
	if err != nil {
		return nil, err
	}
	file, err := f.c.Open(f.ctx, full)
	if err != nil {
		return nil, err
	}
	file.base = path.Base(name) // "." for the root.
	return file, nil
}

// ReadDir returns a directory's entries, sorted by name.
func (f *FS) ReadDir(name string) ([]fs.DirEntry, error) {
	full, err := f.full("readdir", name)
	if err != nil {
		return nil, err
	}
	return f.c.ReadDir(f.ctx, full)
}

// ReadFile returns a file's contents.
func (f *FS) ReadFile(name string) ([]byte, error) {
	full, err := f.full("readfile", name)
	if err != nil {
		return nil, err
	}
	return f.c.ReadFile(f.ctx, full)
}

// Stat describes a file, links followed.
func (f *FS) Stat(name string) (fs.FileInfo, error) { return f.stat("stat", name, true) }

// Lstat describes a file or, if it is a link, the link.
func (f *FS) Lstat(name string) (fs.FileInfo, error) { return f.stat("lstat", name, false) }

func (f *FS) stat(op, name string, follow bool) (fs.FileInfo, error) {
	full, err := f.full(op, name)
	if err != nil {
		return nil, err
	}
	info, err := f.c.stat(f.ctx, op, full, follow)
	if err != nil {
		return nil, err
	}
	info.name = path.Base(name)
	return info, nil
}

// ReadLink returns the target of a symbolic link.
func (f *FS) ReadLink(name string) (string, error) {
	full, err := f.full("readlink", name)
	if err != nil {
		return "", err
	}
	return f.c.ReadLink(f.ctx, full)
}
