package oci

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
)

// An Image is a container image, as its documents describe it.
type Image struct {
	ID     Digest   // Of its configuration.
	Names  []string // What the archive calls it, as NAME:TAG.
	Config Config
	Layers []Layer // The lowest first.
}

// A Layer is an archive of files, which may be compressed.
type Layer struct {
	DiffID Digest // Of the archive that is inside.
	Stored Digest // Of what Open gives; "" where nothing names it.
	Size   int64  // Of what Open gives.
	Far    bool   // Open asks a registry: it takes its time.
	// Unnamed says that no document names DiffID: it was counted from the archive
	// itself, and does not show that the archive is whole.
	Unnamed bool
	Open    func(context.Context) (io.ReadCloser, error)
}

// A store has documents and layers by digest.
type store interface {
	open(ctx context.Context, d descriptor) (io.ReadCloser, error)
	// manifest is like open; registries keep manifests apart.
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

// resolve goes from a manifest or an index to the image for this machine.
func resolve(ctx context.Context, s store, b []byte) (*Image, error) {
	for range maxDepth {
		m, err := decode[manifest](b, "manifest")
		if err != nil {
			return nil, err
		}
		if len(m.Manifests) == 0 {
			return build(ctx, s, m)
		}
		d, err := choose(m.Manifests)
		if err != nil {
			return nil, err
		}
		if b, err = document(ctx, s.manifest, d); err != nil {
			return nil, fmt.Errorf("manifest: %w", err)
		}
	}
	return nil, fmt.Errorf("indexes lie more than %d deep in each other", maxDepth)
}

// wanted is the platform of our machines.
var wanted = platform{Architecture: runtime.GOARCH, OS: "linux"}

// choose takes the one manifest that fits. One without a platform is judged by
// its configuration.
func choose(all []descriptor) (descriptor, error) {
	var fit []descriptor
	var have []string
	for _, d := range all {
		if d.Platform == nil || d.Platform.runsAs(wanted) {
			fit = append(fit, d)
		} else {
			have = append(have, d.Platform.String())
		}
	}
	if len(fit) == 0 {
		return descriptor{}, fmt.Errorf("no image for %s in the index; it has %s", wanted, strings.Join(have, ", "))
	}
	named := slices.DeleteFunc(slices.Clone(fit), func(d descriptor) bool { return d.Platform == nil })
	if len(named) == 0 {
		if !sameDigest(fit) {
			return descriptor{}, fmt.Errorf("%d images for %s in the index: name one", len(fit), wanted)
		}
		return fit[0], nil
	}
	// Of variants the one that asks least of a processor: it runs everywhere.
	return slices.MinFunc(named, func(a, b descriptor) int { return cmp.Compare(a.Platform.level(), b.Platform.level()) }), nil
}

func sameDigest(all []descriptor) bool {
	return !slices.ContainsFunc(all, func(d descriptor) bool { return d.Digest != all[0].Digest })
}

// build reads the configuration and matches the layers with it.
func build(ctx context.Context, s store, m manifest) (*Image, error) {
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
	return assemble(b, layers)
}

// assemble makes an image of its configuration and its layers as they are stored.
func assemble(config []byte, layers []Layer) (*Image, error) {
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
	if (c.OS != "" || c.Architecture != "") && !c.platform.runsAs(wanted) {
		return nil, fmt.Errorf("an image for %s: these machines run %s", c.platform, wanted)
	}
	for i, id := range c.RootFS.DiffIDs {
		if err := id.check(); err != nil {
			return nil, fmt.Errorf("layer %d: %w", i, err)
		}
		layers[i].DiffID = id
	}
	return &Image{ID: DigestOf(config), Config: c.public(), Layers: layers}, nil
}

// errNoImage is an archive or a directory that is something else.
var errNoImage = errors.New("neither an archive of docker save nor an OCI layout")

// NotImage reports whether err says that what was opened is no container image.
func NotImage(err error) bool { return errors.Is(err, errNoImage) }
