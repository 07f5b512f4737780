package oci

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
)

// A Collection holds the images of an archive or a layout. Each reads their documents
// one image at a time.
type Collection struct{ candidates []candidate }

// A candidate is one named image, which may be for other machines.
type candidate struct {
	names []string
	open  func(context.Context, Want) (*Image, error)
}

// Each calls do for each wanted image. It skips images for other machines if there is
// one for ours; left describes each skipped image in a line.
func (c *Collection) Each(ctx context.Context, w Want, do func(*Image) error) (left []string, err error) {
	all, err := c.named(w.Name)
	if err != nil {
		return nil, err
	}
	if w.One {
		return nil, onlyOne(ctx, all, w, do)
	}
	return each(ctx, all, w, do)
}

func each(ctx context.Context, all []candidate, w Want, do func(*Image) error) (left []string, err error) {
	done, size, first := 0, 0, error(nil)
	for _, one := range all {
		img, err := one.image(ctx, w)
		if errors.Is(err, errPlatform) {
			if first == nil {
				first = err
			}
			if len(one.names) > 0 { // An unnamed one is an addition of a builder, such as an attestation.
				left = append(left, fmt.Sprintf("left out: image %s: %v", one.names[0], err))
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		if size += img.documents; size > maxDocument {
			return nil, fmt.Errorf("the configurations of %d images are larger than a document may be (%d bytes): name one image", done+1, maxDocument)
		}
		if err := do(img); err != nil {
			return nil, err
		}
		done++
	}
	if done == 0 {
		return nil, first
	}
	return left, nil
}

// onlyOne checks that exactly one image fits before it calls do.
func onlyOne(ctx context.Context, all []candidate, w Want, do func(*Image) error) error {
	var one *Image
	var names []string
	_, err := each(ctx, all, w, func(img *Image) error {
		if one != nil && img.ID == one.ID {
			one.Names = append(one.Names, img.Names...)
			return nil
		}
		if names = append(names, nameOf(img.Names)); one == nil {
			one = img
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case len(names) > 1:
		return fmt.Errorf("%d images in it: name one as SOURCE:NAME, of %s", len(names), list(names))
	}
	return do(one)
}

func (c candidate) image(ctx context.Context, w Want) (*Image, error) {
	img, err := c.open(ctx, w)
	if err != nil {
		return nil, err
	}
	img.Names = c.names
	return img, nil
}

func nameOf(names []string) string {
	if len(names) == 0 {
		return "<none>"
	}
	return names[0]
}

// named returns the candidates of a name, with only that name.
func (c *Collection) named(want string) ([]candidate, error) {
	if want == "" {
		return c.candidates, nil
	}
	var have []string
	for _, one := range c.candidates {
		if i := slices.IndexFunc(one.names, func(n string) bool { return sameName(n, want) }); i >= 0 {
			one.names = one.names[i : i+1]
			return []candidate{one}, nil
		}
		have = append(have, one.names...)
	}
	if len(have) == 0 {
		return nil, fmt.Errorf("no image %q in it: none of its images has a name", want)
	}
	return nil, fmt.Errorf("no image %q in it; it has %s", want, list(have))
}

// sameName compares the names of two tools: one writes debian, another
// docker.io/library/debian:latest.
func sameName(a, b string) bool {
	if a == b {
		return true
	}
	x, errX := name.ParseReference(a)
	y, errY := name.ParseReference(b)
	return errX == nil && errY == nil && x.Name() == y.Name()
}

func list(names []string) string {
	if more := len(names) - maxListed; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:maxListed], ", "), more)
	}
	return strings.Join(names, ", ")
}

// byIndex makes the candidates of a layout's index. Manifests with the same name are
// one image for several platforms; so are unnamed manifests with a platform.
func byIndex(s store, m manifest) (c Collection) {
	groups, at := [][]descriptor{}, map[string]int{}
	for _, d := range m.Manifests {
		names := d.names()
		key := "name " + nameOf(names)
		if len(names) == 0 && d.Platform == nil {
			key = "digest " + string(d.Digest)
		}
		i, ok := at[key]
		if !ok {
			i = len(groups)
			at[key] = i
			groups = append(groups, nil)
			c.candidates = append(c.candidates, candidate{names: names})
		}
		groups[i] = append(groups[i], d)
	}
	for i, g := range groups {
		c.candidates[i].open = func(ctx context.Context, w Want) (*Image, error) { return w.resolve(ctx, s, manifest{Manifests: g}) }
	}
	return c
}

// annotations are the keys of an image's name in the index of a layout.
var annotations = []string{"io.containerd.image.name", "org.opencontainers.image.ref.name"}

func (d descriptor) names() []string {
	for _, key := range annotations {
		if name := d.Annotations[key]; name != "" {
			return []string{name}
		}
	}
	return nil
}
