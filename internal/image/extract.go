package image

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	reading "github.com/erofs/go-erofs"
)

// ErrNoDirectory says that an image has no directory of that name.
var ErrNoDirectory = errors.New("no such directory in the image")

// Extract copies the contents of a directory of the image to the directory to of this
// host, which must be empty. The directory's own owner, mode and time are copied too.
// Symbolic links in dir are followed within the image.
//
// It copies directories, files, links, modes, times and, as root, owners. It leaves out
// set-user-ID and set-group-ID bits, because the image's author could then give any user
// of this host the rights of root, and devices, fifos, sockets and extended attributes. Left
// has a line for each kind of what was left out.
//
// An image of another file system than EROFS is [ErrUnknownFormat]. After an error the
// directory to holds a part of the copy.
func (i Image) Extract(ctx context.Context, dir, to string) (left []string, err error) {
	if i.FSType != fsErofs {
		return nil, fmt.Errorf("image %s: %w: a disk with %s", i.ID, ErrUnknownFormat, i.FSType)
	}
	f, err := os.Open(i.Path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // It was only read.
	root, err := reading.Open(f)
	if err != nil {
		return nil, fmt.Errorf("read EROFS: %w", err)
	}
	if dir, err = resolve(root, dir); err != nil {
		return nil, err
	}
	below, err := fs.Sub(root, dir)
	if err != nil {
		return nil, err
	}
	return extractTree(ctx, below, to)
}

// resolve follows the symbolic links of a path of the image. The result is a path of
// package io/fs, and a directory.
func resolve(root fs.FS, name string) (string, error) {
	const most = 40 // Linux's limit.
	rest, at := strings.Split(name, "/"), "."
	for links := 0; len(rest) > 0; {
		part := rest[0]
		rest = rest[1:]
		next := path.Join("/", at, part)[1:] // ".." ends at the root.
		if next == "" {
			next = "."
		}
		info, err := fs.Lstat(root, next)
		if errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("%s: %w", name, ErrNoDirectory)
		}
		if err != nil {
			return "", err
		}
		if info.Mode().Type() != fs.ModeSymlink {
			at = next
			continue
		}
		link, err := fs.ReadLink(root, next)
		if links++; err != nil || links > most {
			return "", errors.Join(err, fmt.Errorf("%s: too many symbolic links", name))
		}
		if path.IsAbs(link) {
			at = "."
		}
		rest = append(strings.Split(link, "/"), rest...)
	}
	if info, err := fs.Lstat(root, at); err != nil || !info.IsDir() {
		return "", errors.Join(err, fmt.Errorf("%s: %w", name, ErrNoDirectory))
	}
	return at, nil
}

// extractTree copies the tree by the form that images are saved in, whose writer checks what
// it reads.
func extractTree(ctx context.Context, tree fs.FS, to string) ([]string, error) {
	root, err := os.OpenRoot(to)
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }() // Nothing is written by it.
	x := &extraction{root: root, owners: os.Geteuid() == 0}
	r, w := io.Pipe()
	go func() { w.CloseWithError(writeTree(ctx, tree, w, func(string) { x.sockets.Add(1) })) }()
	err = x.all(tar.NewReader(r))
	r.CloseWithError(err) // The writer ends too.
	return x.left(), err
}
