package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/agentd-go/agentd/internal/image/oci"
)

// ImportImages makes images of source and keeps them. Source is a path if there is
// a file of that name or it looks like one (./NAME, /NAME), else a reference to a
// registry. All images of an archive or a layout are imported. A path may be
//
//   - a directory: the root itself, or an OCI layout
//
//   - an archive of docker save or an OCI archive
//
//   - an archive of a root; all three may be compressed
//
//   - a disk image with EROFS, ext4, XFS or btrfs on it, without partitions
//
//   - SOURCE:NAME of an archive or a layout with several images
//
//   - a named pipe with one of these files in it
//
// What is in the cache already is not made again.
func (c *Cache) ImportImages(ctx context.Context, source string, o ImportOptions) ([]Image, error) {
	naming := func(names []string) []string { return names }
	if o.Name != "" {
		full, err := FullName(o.Name)
		if err != nil {
			return nil, err
		}
		o.Want.One = true
		naming = func([]string) []string { return []string{full} }
	}
	return c.importImages(ctx, source, o, naming)
}

// A Want selects one of several images.
type Want = oci.Want

// ImportOptions select images of a source and name them.
type ImportOptions struct {
	// Name is the image's name; "" keeps the names in the archive or the reference.
	Name string
	Want oci.Want
	// Registry takes the source as a reference, even if a file has that name.
	Registry bool
	// Local takes the source as a path, never as a reference.
	Local bool
	// Input, if it is set, is read to its end as the source's file. The source is then a
	// name for messages, or SOURCE:NAME.
	Input io.Reader

	spooled string // The file with the stream's bytes.
}

// Wanted selects the image of a platform, OS/ARCHITECTURE[/VARIANT], for machines that
// run the variants up to those levels. "" is this host's architecture, and the best
// variant that they run.
func Wanted(platform string, levels oci.Levels) (w oci.Want, err error) {
	if platform != "" {
		w.Platform, err = oci.ParsePlatform(platform, levels)
	}
	w.Level = levels(w.Machine().Architecture)
	return w, err
}

// ImportImage imports one image and gives it the name; "" keeps its own names.
func (c *Cache) ImportImage(ctx context.Context, source, name string) (Image, error) {
	return one(c.ImportImages(ctx, source, ImportOptions{Name: name, Want: oci.Want{One: true}}))
}

func one(all []Image, err error) (Image, error) {
	if err != nil {
		return Image{}, err
	}
	return all[0], nil
}

// UseImage finds an image as [Cache.Image] does. It imports the image if the cache
// lacks it or has another variant. An image from a registry gets its reference as a
// name; an image from a path gets no name.
func (c *Cache) UseImage(ctx context.Context, nameOrSource string, o ImportOptions) (Image, error) {
	isID := strings.HasPrefix(nameOrSource, "sha256:") // An ID cannot be imported.
	if isID && o.Registry {
		return Image{}, fmt.Errorf("image %s: an ID names nothing in a registry: name a reference", nameOrSource)
	}
	i, err := c.ImageFor(o.Want.Machine().Architecture, nameOrSource)
	switch {
	case o.Registry && !looksLikePath(nameOrSource):
	case err == nil && o.Want.Fits(i.Config):
		return i, nil
	case err == nil && (isID || !slices.ContainsFunc(i.Names, func(n string) bool { return isNamed(n, nameOrSource) })):
		return Image{}, fmt.Errorf("image %s: it is for %s, and not for %s", nameOrSource, i.platform(), o.Want.Asked())
	case err != nil && (isID || !errors.Is(err, ErrNoImage)):
		return Image{}, err
	}
	o.Want.One, o.Registry = true, o.Registry && !looksLikePath(nameOrSource)
	found, foundErr := i, err
	i, err = one(c.importImages(ctx, nameOrSource, o, func(names []string) []string {
		if slices.Contains(names, nameOrSource) {
			return []string{nameOrSource}
		}
		return nil
	}))
	if err != nil && foundErr == nil && !o.Want.Fits(found.Config) {
		err = fmt.Errorf("image %s: the cache has it for %s, not for %s, and: %w", nameOrSource, found.platform(), o.Want.Asked(), err)
	}
	return i, err
}

func isNamed(full, name string) bool {
	f, err := FullName(name)
	return err == nil && f == full
}

// importImages imports images; naming turns the names in the source into those to give.
func (c *Cache) importImages(ctx context.Context, source string, o ImportOptions, naming func([]string) []string) ([]Image, error) {
	all, err := c.importAny(ctx, source, o, naming)
	if err != nil {
		_, _ = c.collect(false) // Removes the content of the images before the failed one.
		return nil, fmt.Errorf("import image %s: %w", source, err)
	}
	return all, nil
}

func (c *Cache) importAs(ctx context.Context, source string, o ImportOptions, naming func([]string) []string) ([]Image, error) {
	unlock, err := c.lockImports()
	if err != nil {
		return nil, err
	}
	defer unlock()
	all, err := c.take(ctx, source, o)
	if err != nil {
		return nil, err
	}
	for i := range all {
		all[i].entry.Source = source
		all[i].entry.isFor(o.Want.Platform)
		if all[i].names, err = fullNames(naming(all[i].names)); err != nil {
			return nil, err
		}
	}
	return c.keepAll(all)
}

func fullNames(names []string) (full []string, err error) {
	for _, n := range names {
		f, err := FullName(n)
		if err != nil {
			return nil, err
		}
		full = append(full, f)
	}
	return full, nil
}

// keepAll records and names images after all of them have been read without error.
func (c *Cache) keepAll(all []taken) (images []Image, err error) {
	for _, t := range all {
		if err := c.record(t.entry); err != nil {
			return nil, err
		}
		for _, n := range t.names {
			if err := c.tag(n, t.entry.ID, t.entry.Config); err != nil {
				return nil, err
			}
		}
	}
	for _, t := range all {
		i, err := c.Image(t.entry.ID)
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(images, func(other Image) bool { return other.ID == i.ID }) {
			images = append(images, i)
		}
	}
	return images, nil
}
