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

// Pull finds an image in a registry by its reference, as docker pull takes it.
// Credentials are those that docker login has left. Layers are fetched when they
// are opened; ctx must stay until then.
func Pull(ctx context.Context, reference string) (*Image, error) {
	ref, err := name.ParseReference(reference)
	if err != nil {
		return nil, err
	}
	r := registry{ref.Context()}
	d, err := remote.Get(ref, r.options(ctx)...)
	if err != nil {
		return nil, err
	}
	if len(d.Manifest) > maxDocument {
		return nil, fmt.Errorf("%s: manifest of %d bytes: larger than a document may be", reference, len(d.Manifest))
	}
	img, err := resolve(ctx, r, d.Manifest)
	if err != nil {
		return nil, err
	}
	img.Names = []string{reference}
	return img, nil
}

// A registry is one repository of one.
type registry struct{ repository name.Repository }

func (r registry) options(ctx context.Context) []remote.Option {
	return []remote.Option{remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain)}
}

func (r registry) open(ctx context.Context, d descriptor) (io.ReadCloser, error) {
	l, err := remote.Layer(r.repository.Digest(string(d.Digest)), r.options(ctx)...)
	if err != nil {
		return nil, err
	}
	return l.Compressed()
}

func (r registry) manifest(ctx context.Context, d descriptor) (io.ReadCloser, error) {
	m, err := remote.Get(r.repository.Digest(string(d.Digest)), r.options(ctx)...)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(bytes.NewReader(m.Manifest)), nil
}
