package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/agentd-go/agentd/internal/image/oci"
)

// taken is an image whose content is in the cache, and the names to record it under.
type taken struct {
	entry imageEntry
	names []string
}

// take puts the contents of a source's images into the cache.
func (c *Cache) take(ctx context.Context, source string, o ImportOptions) ([]taken, error) {
	if o.spooled != "" {
		return c.takePath(ctx, o.spooled, o.Want)
	}
	if o.Registry {
		return c.takeReference(ctx, source, o.Want)
	}
	info, err := os.Stat(source)
	if errors.Is(err, fs.ErrNotExist) {
		if path, name, ok := cutName(source); ok {
			o.Want.Name, source = name, path
			info, err = os.Stat(path)
		}
	}
	switch {
	case errors.Is(err, fs.ErrNotExist) && !looksLikePath(source):
		if o.Local {
			return nil, fmt.Errorf("%w here, and none is to be fetched", ErrNoImage)
		}
		all, err := c.takeReference(ctx, source, o.Want)
		if err != nil {
			return nil, fmt.Errorf("no such file, and as a reference to a registry: %w", err)
		}
		return all, nil
	case err != nil:
		return nil, err
	case info.IsDir():
		return c.takeDir(ctx, source, o.Want)
	case !info.Mode().IsRegular():
		return nil, errors.New("neither a file nor a directory")
	}
	return c.takePath(ctx, source, o.Want)
}

func (c *Cache) takePath(ctx context.Context, path string, w oci.Want) ([]taken, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return c.takeFile(ctx, f, w, true)
}

func (c *Cache) takeReference(ctx context.Context, reference string, w oci.Want) ([]taken, error) {
	img, err := oci.Pull(ctx, reference, w)
	if err != nil {
		return nil, err
	}
	return asOne(c.takeLayers(ctx, img))
}

func asOne(t taken, err error) ([]taken, error) { return []taken{t}, err }

// cutName splits SOURCE:NAME if SOURCE holds images. A word that could be a reference
// counts as a path only if an archive or a layout is there.
func cutName(s string) (source, name string, ok bool) {
	for i := range len(s) {
		if s[i] == ':' && i > 0 && i < len(s)-1 && (looksLikePath(s[:i]) && exists(s[:i]) || holdsImages(s[:i])) {
			return s[:i], s[i+1:], true
		}
	}
	return "", "", false
}

func holdsImages(path string) bool {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return false
	case info.IsDir():
		return exists(filepath.Join(path, "index.json")) || exists(filepath.Join(path, "manifest.json"))
	case !info.Mode().IsRegular():
		return false
	}
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }()
	return isTar(f) || isCompressed(f)
}

func looksLikePath(s string) bool {
	return filepath.IsAbs(s) || strings.HasPrefix(s, "./") || strings.HasPrefix(s, "../") || s == "." || s == ".."
}

func (c *Cache) takeLayers(ctx context.Context, img *oci.Image) (taken, error) {
	dir, err := c.lowerOfLayers(ctx, img.Layers)
	if err != nil {
		return taken{}, err
	}
	e := c.entry(string(img.ID), fsErofs, dir, lowerFile)
	e.Config = img.Config
	for _, l := range img.Layers {
		e.Layers = append(e.Layers, string(l.DiffID))
	}
	return taken{e, img.Names}, nil
}

// takeCollection takes the images that are wanted, one after the other.
func (c *Cache) takeCollection(ctx context.Context, all *oci.Collection, w oci.Want) (images []taken, err error) {
	left, err := all.Each(ctx, w, func(img *oci.Image) error {
		t, err := c.takeLayers(ctx, img)
		images = append(images, t)
		return err
	})
	for _, line := range left {
		noteLine(ctx, line)
	}
	return images, err
}

func (c *Cache) entry(id, fstype, dir, file string) imageEntry {
	return imageEntry{ID: id, FSType: fstype, Content: filepath.Join(filepath.Base(filepath.Dir(dir)), filepath.Base(dir)), File: file}
}

// byContent returns an image without a configuration. Its ID is the key of its content.
func (c *Cache) byContent(fstype, dir, file string) []taken {
	return []taken{{entry: c.entry("sha256:"+filepath.Base(dir), fstype, dir, file)}}
}

func (c *Cache) takeDir(ctx context.Context, path string, w oci.Want) ([]taken, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }()
	all, err := oci.OpenLayout(root)
	if err == nil {
		return c.takeCollection(ctx, all, w)
	}
	if err := refusesName(err, w); err != nil {
		return nil, err
	}
	dir, err := c.lowerOfTree(ctx, path)
	return c.byContent(fsErofs, dir, lowerFile), err
}

// refusesName returns the error of opening a collection, unless the source is no
// collection and no image name was given.
func refusesName(err error, w oci.Want) error {
	if oci.NotImage(err) && w.Name == "" {
		return nil
	}
	if oci.NotImage(err) {
		return fmt.Errorf("no image %q in it: %w", w.Name, err)
	}
	return err
}

// takeFile detects the content of a file. It unpacks a compressed file once.
func (c *Cache) takeFile(ctx context.Context, f *os.File, w oci.Want, compressed bool) ([]taken, error) {
	switch fstype := diskType(f); {
	case isTar(f): // Tested first: the files in an archive can look like a super block.
		return c.takeArchive(ctx, f, w)
	case isCompressed(f) && compressed:
		return c.takeCompressed(ctx, f, w)
	case w.Name != "":
		return nil, fmt.Errorf("no image %q in it: no archive", w.Name)
	case fstype == fsErofs:
		dir, err := c.keepDisk(ctx, f, fstype, lowerKind, lowerFile)
		return c.byContent(fstype, dir, lowerFile), err
	case fstype != "":
		dir, err := c.keepDisk(ctx, f, fstype, diskKind, diskFile)
		return c.byContent(fstype, dir, diskFile), err
	case isPartitioned(f):
		return nil, errors.New("a disk with partitions: import the partition with the root file system alone")
	}
	return nil, errors.New("neither an archive (docker save, OCI, tar) nor a disk image with EROFS, ext4, XFS or btrfs")
}

func (c *Cache) takeArchive(ctx context.Context, f *os.File, w oci.Want) ([]taken, error) {
	all, err := oci.OpenArchive(f, f)
	if err == nil {
		return c.takeCollection(ctx, all, w)
	}
	if err := refusesName(err, w); err != nil {
		return nil, err
	}
	layer, err := fileLayer(ctx, f.Name())
	if err != nil {
		return nil, err
	}
	dir, err := c.lowerOfLayers(ctx, []oci.Layer{layer})
	images := c.byContent(fsErofs, dir, lowerFile)
	images[0].entry.Layers = []string{string(layer.DiffID)}
	return images, err
}

// takeCompressed decompresses to a temporary file, because an archive of archives needs
// random access.
func (c *Cache) takeCompressed(ctx context.Context, f *os.File, w oci.Want) ([]taken, error) {
	tmp, err := c.scratch(imageKind)
	if err != nil {
		return nil, err
	}
	defer tmp.remove()
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	d, err := decompress(contextReader{ctx, f})
	if err != nil {
		return nil, err
	}
	defer func() { _ = d.Close() }()
	path := filepath.Join(tmp.dir, "archive")
	if _, err := keepBounded(path, d); err != nil {
		return nil, err
	}
	inside, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = inside.Close() }()
	return c.takeFile(ctx, inside, w, false)
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
	var unsigned, signed int64 // Some old programs summed signed characters.
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
	return hasCompressedMagic(b)
}
