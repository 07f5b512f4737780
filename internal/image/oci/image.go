package oci

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
)

// An Image is a container image, as its documents describe it.
type Image struct {
	ID     Digest   // Of its configuration.
	Names  []string // Its names in the archive, as NAME:TAG.
	Config Config
	Layers []Layer // The lowest first.

	documents int // Bytes of the documents that Config was read from.
}

// A Layer is an archive of files, which may be compressed.
type Layer struct {
	DiffID Digest // Digest of the archive inside.
	Stored Digest // Digest of the stored bytes, which Open returns; "" if nothing names it.
	Size   int64  // Number of stored bytes.
	Far    bool   // Open asks a registry, which takes time.
	// Unnamed says that no document names DiffID: it was computed from the archive
	// itself, so it does not show that the archive is whole.
	Unnamed bool
	Open    func(context.Context) (io.ReadCloser, error)
}

// A store has documents and layers by digest.
type store interface {
	open(ctx context.Context, d descriptor) (io.ReadCloser, error)
	// manifest is like open, for manifests, which registries store separately.
	manifest(ctx context.Context, d descriptor) (io.ReadCloser, error)
}

// document reads what d names, and checks it.
func document(ctx context.Context, open func(context.Context, descriptor) (io.ReadCloser, error), d descriptor) ([]byte, error) {
	if err := d.Digest.check(); err != nil {
		return nil, err
	}
	r, err := open(ctx, d)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	b, err := readDocument(r)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d.Digest, err)
	}
	if got := DigestOf(b); got != d.Digest {
		return nil, fmt.Errorf("%s: %w: it has %s", d.Digest, ErrDigest, got)
	}
	return b, nil
}

// resolve follows indexes from m to the wanted image.
func (w Want) resolve(ctx context.Context, s store, m manifest) (*Image, error) {
	var variant string
	for range maxDepth {
		if len(m.Manifests) == 0 {
			img, err := w.build(ctx, s, m)
			if err == nil {
				img.Config.Variant = cmp.Or(img.Config.Variant, variant)
			}
			return img, err
		}
		d, err := w.choose(m.Manifests)
		if err != nil {
			return nil, err
		}
		if d.Platform != nil {
			variant = d.Platform.Variant
		}
		b, err := document(ctx, s.manifest, d)
		if err != nil {
			return nil, fmt.Errorf("manifest: %w", err)
		}
		if m, err = decode[manifest](b, "manifest"); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("indexes lie more than %d deep in each other", maxDepth)
}

// build reads the configuration and checks the layers against it.
func (w Want) build(ctx context.Context, s store, m manifest) (*Image, error) {
	b, err := document(ctx, s.open, m.Config)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	layers := make([]Layer, len(m.Layers))
	for i, d := range m.Layers {
		if err := d.Digest.check(); err != nil {
			return nil, fmt.Errorf("layer %d: %w", i, err)
		}
		layers[i] = Layer{Stored: d.Digest, Size: d.Size, Open: func(ctx context.Context) (io.ReadCloser, error) { return s.open(ctx, d) }}
	}
	return w.assemble(b, layers)
}

// assemble makes an image from its configuration and its stored layers.
func (w Want) assemble(config []byte, layers []Layer) (*Image, error) {
	c, err := decode[configuration](config, "configuration")
	if err != nil {
		return nil, err
	}
	if len(layers) == 0 || len(layers) > maxLayers {
		return nil, fmt.Errorf("%d layers: want 1 to %d", len(layers), maxLayers)
	}
	if len(c.RootFS.DiffIDs) != len(layers) {
		return nil, fmt.Errorf("%d layers, but the configuration names %d", len(layers), len(c.RootFS.DiffIDs))
	}
	if wanted := w.Machine(); (c.OS != "" || c.Architecture != "") && !c.Platform.runsAs(wanted) {
		return nil, fmt.Errorf("an image for %s: the machine runs %s: %w", c.Platform, wanted, errPlatform)
	}
	for i, id := range c.RootFS.DiffIDs {
		if err := id.check(); err != nil {
			return nil, fmt.Errorf("layer %d: %w", i, err)
		}
		layers[i].DiffID = id
	}
	return &Image{ID: DigestOf(config), Config: c.public(), Layers: layers, documents: len(config)}, nil
}

// errNoImage says that an archive or a directory holds no container image.
var errNoImage = errors.New("neither an archive of docker save nor an OCI layout")

// NotImage reports whether err says that the opened archive or directory holds no
// container image.
func NotImage(err error) bool { return errors.Is(err, errNoImage) }
