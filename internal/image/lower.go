package image

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/agentd-go/agentd/internal/image/erofs"
	"github.com/agentd-go/agentd/internal/image/oci"
)

const (
	lowerKind = "lowers"
	lowerFile = "lower.erofs"
	// lowerRecipe is part of the key of every image that we write.
	lowerRecipe = "lower 1"
)

// layersKey is the key of the lower of these layers. It does not depend on how they are
// compressed.
func layersKey(layers []oci.Layer) keyer {
	k := newKeyer(lowerRecipe)
	for _, l := range layers {
		k.add([]byte(l.DiffID))
	}
	return k
}

// lowerOfLayers returns the cache entry with the EROFS image of layers, the
// lowest first.
func (c *Cache) lowerOfLayers(ctx context.Context, layers []oci.Layer) (dir string, err error) {
	k := layersKey(layers)
	return c.Dir(lowerKind, k.key(), func(dir string) error {
		near, end, err := c.ahead(ctx, layers)
		if err != nil {
			return err
		}
		defer end()
		return writeLower(dir, k.uuid(), func(w *erofs.Writer) error { return addLayers(ctx, w, near) })
	})
}

func addLayers(ctx context.Context, w *erofs.Writer, layers []oci.Layer) error {
	for _, l := range layers {
		advance(ctx, 0, l.Size)
	}
	for i, l := range layers {
		err := readLayer(ctx, l, func(r io.Reader) error { return w.AddLayer(r) })
		if err != nil {
			return fmt.Errorf("layer %d of %d: %w", i+1, len(layers), err)
		}
	}
	noteLeft(ctx, w.Left())
	return nil
}

// lowerOfTree returns the cache entry with the EROFS image of a directory. Its key is
// the hash of the image, because a directory has no digest.
func (c *Cache) lowerOfTree(ctx context.Context, tree string) (dir string, err error) {
	return c.stage(lowerKind, func(dir string) (string, error) {
		err := writeLower(dir, [16]byte{}, func(w *erofs.Writer) error { return addTree(ctx, w, tree) })
		if err != nil {
			return "", err
		}
		k := newKeyer(lowerRecipe)
		path := filepath.Join(dir, lowerFile)
		if err := k.addFile(path); err != nil {
			return "", err
		}
		return k.key(), setUUID(path, k.uuid())
	})
}

func setUUID(path string, uuid [16]byte) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(erofs.SetUUID(f, uuid), f.Sync(), f.Close())
}

// writeLower makes the image in dir.
func writeLower(dir string, uuid [16]byte, fill func(*erofs.Writer) error) error {
	f, err := os.OpenFile(filepath.Join(dir, lowerFile), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	w := erofs.NewWriter(f, erofs.Options{UUID: uuid})
	if err = fill(w); err == nil {
		err = w.Close()
	}
	if err == nil {
		// The name promises this content, so it must be on disk before the rename.
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// uuid is the beginning of the key. Overlayfs identifies its lower by this UUID.
func (k keyer) uuid() (uuid [16]byte) {
	copy(uuid[:], k.h.Sum(nil))
	return uuid
}

// fileLayer returns a whole file as one layer, with its digest.
func fileLayer(ctx context.Context, path string) (l oci.Layer, err error) {
	l.Unnamed = true
	l.Open = func(context.Context) (io.ReadCloser, error) { return os.Open(path) }
	f, err := os.Open(path)
	if err != nil {
		return l, err
	}
	defer func() { _ = f.Close() }()
	h := sha256.New()
	if l.Size, err = io.Copy(h, contextReader{ctx, f}); err != nil {
		return l, err
	}
	l.DiffID = oci.Sum(h.Sum(nil))
	return l, nil
}
