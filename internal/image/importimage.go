package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/agentd-go/agentd/internal/image/erofs"
	"github.com/agentd-go/agentd/internal/image/oci"
)

// ImportImage makes an image of source and keeps it. Source is a path if there is
// a file of that name or it looks like one (./NAME, /NAME), else a reference to a
// registry. A path may be
//
//   - a directory: the root itself, or an OCI layout
//   - an archive of docker save or an OCI archive
//   - an archive of a root; all three may be compressed
//   - a disk image with EROFS, ext4, XFS or btrfs on it, without partitions
//
// The image gets the name; "" are the names that an archive or reference has.
// What is in the cache already is not made again.
func (c *Cache) ImportImage(ctx context.Context, source, name string) (Image, error) {
	naming := func(names []string) []string { return names }
	if name != "" {
		full, err := FullName(name)
		if err != nil {
			return Image{}, err
		}
		naming = func([]string) []string { return []string{full} }
	}
	return c.importImage(ctx, source, naming)
}

// UseImage finds an image as [Cache.Image] does, and where there is none, imports
// it. What comes from a registry is known by its reference from then on; a path
// gives no name away.
func (c *Cache) UseImage(ctx context.Context, nameOrSource string) (Image, error) {
	i, err := c.Image(nameOrSource)
	if !errors.Is(err, ErrNoImage) || strings.HasPrefix(nameOrSource, "sha256:") { // An ID is no source.
		return i, err
	}
	return c.importImage(ctx, nameOrSource, func(names []string) []string {
		if slices.Contains(names, nameOrSource) {
			return []string{nameOrSource}
		}
		return nil
	})
}

// importImage gives the image the names that naming makes of its own.
func (c *Cache) importImage(ctx context.Context, source string, naming func([]string) []string) (Image, error) {
	i, err := c.importAs(ctx, source, naming)
	if err != nil {
		return Image{}, fmt.Errorf("import image %s: %w", source, err)
	}
	return i, nil
}

func (c *Cache) importAs(ctx context.Context, source string, naming func([]string) []string) (Image, error) {
	unlock, err := c.lockImports(true)
	if err != nil {
		return Image{}, err
	}
	defer unlock()
	e, names, err := c.take(ctx, source)
	if err != nil {
		return Image{}, err
	}
	e.Source = source
	if err := c.record(e); err != nil {
		return Image{}, err
	}
	for _, n := range naming(names) {
		full, err := FullName(n)
		if err != nil {
			return Image{}, err
		}
		if err := c.tag(full, e.ID); err != nil {
			return Image{}, err
		}
	}
	return c.Image(e.ID)
}

// take makes what the image consists of, and returns what is to be recorded.
func (c *Cache) take(ctx context.Context, source string) (imageEntry, []string, error) {
	info, err := os.Stat(source)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !looksLikePath(source):
		img, err := oci.Pull(ctx, source)
		if err != nil {
			return imageEntry{}, nil, fmt.Errorf("no such file, and as a reference to a registry: %w", err)
		}
		return c.takeLayers(ctx, img)
	case err != nil:
		return imageEntry{}, nil, err
	case info.IsDir():
		return c.takeDir(ctx, source)
	case !info.Mode().IsRegular():
		return imageEntry{}, nil, errors.New("neither a file nor a directory")
	}
	f, err := os.Open(source)
	if err != nil {
		return imageEntry{}, nil, err
	}
	defer func() { _ = f.Close() }()
	return c.takeFile(ctx, f, true)
}

func looksLikePath(s string) bool {
	return filepath.IsAbs(s) || strings.HasPrefix(s, "./") || strings.HasPrefix(s, "../") || s == "." || s == ".."
}

func (c *Cache) takeLayers(ctx context.Context, img *oci.Image) (imageEntry, []string, error) {
	dir, err := c.lowerOfLayers(ctx, img.Layers)
	if err != nil {
		return imageEntry{}, nil, err
	}
	e := c.entry(string(img.ID), fsErofs, dir, lowerFile)
	e.Config = img.Config
	for _, l := range img.Layers {
		e.Layers = append(e.Layers, string(l.DiffID))
	}
	return e, img.Names, nil
}

func (c *Cache) entry(id, fstype, dir, file string) imageEntry {
	return imageEntry{ID: id, FSType: fstype, Content: filepath.Join(filepath.Base(filepath.Dir(dir)), filepath.Base(dir)), File: file}
}

// byContent is the entry of an image without a configuration: its ID is the key
// of its content.
func (c *Cache) byContent(fstype, dir, file string) imageEntry {
	return c.entry("sha256:"+filepath.Base(dir), fstype, dir, file)
}

func (c *Cache) takeDir(ctx context.Context, path string) (imageEntry, []string, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return imageEntry{}, nil, err
	}
	defer func() { _ = root.Close() }()
	img, err := oci.OpenLayout(ctx, root)
	if err == nil {
		return c.takeLayers(ctx, img)
	}
	if !oci.NotImage(err) {
		return imageEntry{}, nil, err
	}
	dir, err := c.lowerOfTree(ctx, path)
	return c.byContent(fsErofs, dir, lowerFile), nil, err
}

// takeFile looks what is in a file, and, once, in a compressed one.
func (c *Cache) takeFile(ctx context.Context, f *os.File, compressed bool) (imageEntry, []string, error) {
	switch fstype := diskType(f); {
	case isTar(f): // First: what is in an archive can look like a super block.
		return c.takeArchive(ctx, f)
	case isCompressed(f) && compressed:
		return c.takeCompressed(ctx, f)
	case fstype == fsErofs:
		dir, err := c.keepDisk(ctx, f, fstype, lowerKind, lowerFile)
		return c.byContent(fstype, dir, lowerFile), nil, err
	case fstype != "":
		dir, err := c.keepDisk(ctx, f, fstype, diskKind, diskFile)
		return c.byContent(fstype, dir, diskFile), nil, err
	case isPartitioned(f):
		return imageEntry{}, nil, errors.New("a disk with partitions: import the partition with the root file system alone")
	}
	return imageEntry{}, nil, errors.New("neither an archive (docker save, OCI, tar) nor a disk image with EROFS, ext4, XFS or btrfs")
}

func (c *Cache) takeArchive(ctx context.Context, f *os.File) (imageEntry, []string, error) {
	img, err := oci.OpenArchive(ctx, f, f)
	if err == nil {
		return c.takeLayers(ctx, img)
	}
	if !oci.NotImage(err) {
		return imageEntry{}, nil, err
	}
	layer, err := fileLayer(ctx, f.Name())
	if err != nil {
		return imageEntry{}, nil, err
	}
	dir, err := c.lowerOfLayers(ctx, []oci.Layer{layer})
	e := c.byContent(fsErofs, dir, lowerFile)
	e.Layers = []string{string(layer.DiffID)}
	return e, nil, err
}

// takeCompressed unpacks to a temporary file: an archive of archives must be read
// in more than one place.
func (c *Cache) takeCompressed(ctx context.Context, f *os.File) (imageEntry, []string, error) {
	tmp, err := c.scratch(imageKind)
	if err != nil {
		return imageEntry{}, nil, err
	}
	defer tmp.remove()
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return imageEntry{}, nil, err
	}
	d, err := decompress(contextReader{ctx, f})
	if err != nil {
		return imageEntry{}, nil, err
	}
	defer func() { _ = d.Close() }()
	path := filepath.Join(tmp.dir, "archive")
	limited := &io.LimitedReader{R: d, N: erofs.DefaultLimits.Bytes}
	if err := copySparse(path, limited); err != nil {
		return imageEntry{}, nil, err
	}
	if limited.N == 0 {
		return imageEntry{}, nil, fmt.Errorf("%w (%d bytes)", ErrTooLarge, erofs.DefaultLimits.Bytes)
	}
	inside, err := os.Open(path)
	if err != nil {
		return imageEntry{}, nil, err
	}
	defer func() { _ = inside.Close() }()
	return c.takeFile(ctx, inside, false)
}

// isTar reports whether r begins with the header of a tar archive, in any form:
// the checksum says so, as the oldest form has no magic; tar(5).
func isTar(r io.ReaderAt) bool {
	const block, at, length = 512, 148, 8
	b := make([]byte, block)
	if _, err := r.ReadAt(b, 0); err != nil {
		return false
	}
	want, err := strconv.ParseInt(strings.Trim(string(b[at:at+length]), " \x00"), 8, 64)
	if err != nil {
		return false
	}
	copy(b[at:], "        ")
	var unsigned, signed int64 // Some old programs took characters for signed.
	for _, c := range b {
		unsigned, signed = unsigned+int64(c), signed+int64(int8(c))
	}
	return want == unsigned || want == signed
}

func isCompressed(r io.ReaderAt) bool {
	b := make([]byte, len(xzMagic))
	if _, err := r.ReadAt(b, 0); err != nil {
		return false
	}
	return bytes.HasPrefix(b, gzipMagic) || bytes.HasPrefix(b, xzMagic) || hasZstdMagic(b)
}
