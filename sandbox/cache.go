package sandbox

import (
	"context"
	"io"

	"github.com/agentd-go/agentd/internal/image"
)

// A Cache is a directory with kernels, images and what is made of them. Many processes
// may use it at once, and its methods may be called from several goroutines.
type Cache struct {
	files *image.Cache
}

// OpenCache returns the cache in a directory, which is made if it is missing; "" is the
// user's, which machines use whose [Config] names none: $AGENTCTL_CACHE, else agentctl
// in $XDG_CACHE_HOME, else ~/.cache/agentctl.
func OpenCache(dir string) (*Cache, error) {
	c, err := image.Open(dir)
	if err != nil {
		return nil, err
	}
	return &Cache{c}, nil
}

// cacheFiles returns the files of the cache that a configuration names.
func (c Config) cacheFiles() (*image.Cache, error) {
	if c.Cache != nil {
		return c.Cache.files, nil
	}
	return image.Open("")
}

// Path returns the cache's directory.
func (c *Cache) Path() string { return c.files.Path() }

// ImportImage puts an image into the cache: a directory, an archive of docker
// save, an OCI archive or layout, an archive of a root, a disk image with a file
// system, or what a registry has at a reference. A path wins over a reference, and
// SOURCE:NAME is one image of an archive or a layout with several.
func (c *Cache) ImportImage(ctx context.Context, source string, o ImportOptions) (Image, error) {
	chosen, err := o.choose()
	if err != nil {
		return Image{}, err
	}
	chosen.Want.One = true
	all, err := c.files.ImportImages(o.attend(ctx), source, chosen)
	if err != nil {
		return Image{}, err
	}
	return describeImage(all[0]), nil
}

// ImportImages is ImportImage for all images of an archive or a layout. A name of the
// options is only for one.
func (c *Cache) ImportImages(ctx context.Context, source string, o ImportOptions) ([]Image, error) {
	chosen, err := o.choose()
	if err != nil {
		return nil, err
	}
	all, err := c.files.ImportImages(o.attend(ctx), source, chosen)
	return describeImages(all), err
}

// UseImage finds an image as [Cache.FindImage] does, and imports it if there is none:
// nameOrSource is then a path or a reference.
func (c *Cache) UseImage(ctx context.Context, nameOrSource string, o ImportOptions) (Image, error) {
	chosen, err := o.choose()
	if err != nil {
		return Image{}, err
	}
	i, err := c.files.UseImage(o.attend(ctx), nameOrSource, chosen)
	return describeImage(i), err
}

// SaveImages writes images to one archive, as docker save does, which docker load and
// [Cache.ImportImages] read. Each has the name by which it is asked for, and none if that
// is an ID. Its root is one layer, so that its ID is another. Sockets are left out; say,
// if it is not nil, is given a line for each. A disk that is no EROFS is refused.
func (c *Cache) SaveImages(ctx context.Context, to io.Writer, say func(line string), namesOrIDs ...string) error {
	return c.files.SaveImages(ImportOptions{Notes: say}.attend(ctx), to, namesOrIDs...)
}

// TagImage gives an image one more name, which another may have had.
func (c *Cache) TagImage(nameOrID, name string) (Image, error) {
	i, err := c.files.TagImage(nameOrID, name)
	return describeImage(i), err
}

// FindImage finds an image by a name, or by its ID or the first characters of that,
// eight at least. The error is [ErrImageNotFound] where there is none.
func (c *Cache) FindImage(nameOrID string) (Image, error) {
	i, err := c.files.Image(nameOrID)
	return describeImage(i), err
}

// Images lists the images, the newest import first.
func (c *Cache) Images() ([]Image, error) {
	all, err := c.files.Images()
	return describeImages(all), err
}

// RemoveImage removes a name, and the image with its last name; or, given an ID,
// the image with all names. Machines that run go on.
func (c *Cache) RemoveImage(nameOrID string) error { return c.files.RemoveImage(nameOrID) }

// PruneImages removes images without a name, but for those with the given IDs, and
// returns them.
func (c *Cache) PruneImages(keep ...string) ([]Image, error) {
	all, err := c.files.PruneImages(keep...)
	return describeImages(all), err
}

// ImportKernel puts a kernel into the cache: a Debian package (and its modules'
// package), a libkrunfw library, or a bare image.
func (c *Cache) ImportKernel(paths ...string) (Kernel, error) {
	k, err := c.files.ImportKernel(paths...)
	return describe(k), err
}

// FetchKernel downloads the newest small kernel of the host's distribution by its
// package manager (apt), and puts it into the cache with its modules. It installs
// nothing and needs no root.
func (c *Cache) FetchKernel(ctx context.Context) (Kernel, error) {
	k, err := c.files.FetchKernel(ctx)
	return describe(k), err
}

// Kernels lists the kernels, the newest import first.
func (c *Cache) Kernels() ([]Kernel, error) {
	all, err := c.files.Kernels()
	out := make([]Kernel, len(all))
	for i, k := range all {
		out[i] = describe(k)
	}
	return out, err
}

// RemoveKernel removes a kernel by its name, or its ID or the first eight or more
// characters of that. A name that several have is refused. Machines that run go on.
func (c *Cache) RemoveKernel(nameOrID string) (Kernel, error) {
	k, err := c.files.RemoveKernel(nameOrID)
	return describe(k), err
}
