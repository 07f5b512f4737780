package oci

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// Pull finds an image in a registry by its reference, as docker pull takes it. It uses
// the credentials that docker login has stored. Layers are fetched when they are
// opened.
func Pull(ctx context.Context, reference string, w Want) (*Image, error) {
	ref, err := name.ParseReference(reference)
	if err != nil {
		return nil, err
	}
	p, err := remote.NewPuller(remote.WithAuthFromKeychain(authn.DefaultKeychain))
	if err != nil {
		return nil, err
	}
	r := registry{ref.Context(), p}
	d, err := p.Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	if len(d.Manifest) > maxDocument {
		return nil, fmt.Errorf("%s: manifest of %d bytes: larger than a document may be", reference, len(d.Manifest))
	}
	m, err := decode[manifest](d.Manifest, "manifest")
	if err != nil {
		return nil, err
	}
	img, err := w.resolve(ctx, r, m)
	if err != nil {
		return nil, err
	}
	img.Names = []string{reference}
	for i := range img.Layers {
		img.Layers[i].Far = true
	}
	return img, nil
}

// A registry is one repository of a registry. Its puller logs in once.
type registry struct {
	repository name.Repository
	puller     *remote.Puller
}

func (r registry) open(ctx context.Context, d descriptor) (io.ReadCloser, error) {
	l, err := r.puller.Layer(ctx, r.repository.Digest(string(d.Digest)))
	if err != nil {
		return nil, err
	}
	return l.Compressed()
}

func (r registry) manifest(ctx context.Context, d descriptor) (io.ReadCloser, error) {
	m, err := r.puller.Get(ctx, r.repository.Digest(string(d.Digest)))
	if err != nil {
		return nil, err
	}
	return io.NopCloser(bytes.NewReader(m.Manifest)), nil
}
