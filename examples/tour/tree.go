package main

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/agentd-go/agentd/client"
)

// copyTree copies a directory of this host into the machine, and counts its files there.
func copyTree(v *visit) error {
	dir, err := os.MkdirTemp("", "tour-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := plant(dir); err != nil {
		return err
	}
	if err := copyIn(v.ctx, v.c, dir, "/srv/tree"); err != nil {
		return err
	}
	n := 0
	err = fs.WalkDir(v.c.FS().WithContext(v.ctx), "srv/tree", func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			n++
		}
		return err
	})
	if err == nil && n != 2 {
		err = fmt.Errorf("%d files in the machine", n)
	}
	return err
}

// plant makes a small tree.
func plant(dir string) error {
	if err := os.Mkdir(filepath.Join(dir, "web"), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "web", "index.html"), []byte("a page\n"), 0o644); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "run.sh"), []byte("#!/bin/sh\n"), 0o755); err != nil {
		return err
	}
	return os.Symlink("web/index.html", filepath.Join(dir, "link"))
}

// copyIn copies directories, files and links.
func copyIn(ctx context.Context, c *client.Client, from, to string) error {
	return filepath.WalkDir(from, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rest, err := filepath.Rel(from, name)
		if err != nil {
			return err
		}
		target := path.Join(to, filepath.ToSlash(rest))
		switch {
		case d.IsDir():
			return c.MkdirAll(ctx, target, info.Mode().Perm())
		case d.Type() == fs.ModeSymlink:
			text, err := os.Readlink(name)
			if err != nil {
				return err
			}
			return c.Symlink(ctx, text, target)
		default:
			return copyFile(ctx, c, name, target, info)
		}
	})
}

func copyFile(ctx context.Context, c *client.Client, name, target string, info fs.FileInfo) error {
	in, err := os.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	out, err := c.OpenFile(ctx, target, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, info.Mode().Perm())
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		_ = out.Close() // The first error is the one to tell.
		return err
	}
	if err := out.Describe(info.Mode(), info.ModTime()); err != nil {
		_ = out.Close()
		return err
	}
	return out.Close()
}
