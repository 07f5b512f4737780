package sandbox

import (
	"context"
	"io"

	"github.com/agentd-go/agentd/internal/image"
)

// A Cache is a directory with kernels, images and files made from them. Many processes
// may use it at once. A Cache is safe for concurrent use.
type Cache struct {
	files *image.Cache
}

// OpenCache returns the cache in a directory, and makes the directory if it is missing.
// "" means the user's cache, which is also the default of a [Config]: $AGENTCTL_CACHE,
// else agentctl in $XDG_CACHE_HOME, else ~/.cache/agentctl.
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

// ImportImage puts an image into the cache: a directory, an archive of docker save, an
// OCI archive or layout, an archive of a root, a disk image with a file system, or an
// image of a registry. An existing path takes precedence over a reference. SOURCE:NAME
// selects one image of an archive or a layout.
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

// ImportImages is ImportImage for all images of an archive or a layout. The option Name
// requires a single image.
func (c *Cache) ImportImages(ctx context.Context, source string, o ImportOptions) ([]Image, error) {
	chosen, err := o.choose()
	if err != nil {
		return nil, err
	}
	all, err := c.files.ImportImages(o.attend(ctx), source, chosen)
	return describeImages(all), err
}

// UseImage finds an image as [Cache.FindImage] does. If there is none, it imports
// nameOrSource, which is then a path or a reference.
func (c *Cache) UseImage(ctx context.Context, nameOrSource string, o ImportOptions) (Image, error) {
	chosen, err := o.choose()
	if err != nil {
		return Image{}, err
	}
	i, err := c.files.UseImage(o.attend(ctx), nameOrSource, chosen)
	return describeImage(i), err
}

// SaveImages writes images to one archive, as docker save does; docker load and
// [Cache.ImportImages] read it. Each image has the name that the caller gives, or none if
// that is an ID. Its root becomes one layer, so its ID changes. Sockets are left out;
// SaveImages calls say, if it is not nil, with a line for each. It refuses images that
// are disks with another file system than EROFS.
func (c *Cache) SaveImages(ctx context.Context, to io.Writer, say func(line string), namesOrIDs ...string) error {
	return c.files.SaveImages(ImportOptions{Notes: say}.attend(ctx), to, namesOrIDs...)
}

// TagImage gives an image one more name, and takes the name from the image that had it.
func (c *Cache) TagImage(nameOrID, name string) (Image, error) {
	i, err := c.files.TagImage(nameOrID, name)
	return describeImage(i), err
}

// FindImage finds an image by a name, by its ID, or by at least the first eight
// characters of its ID. The error is [ErrImageNotFound] if there is none.
func (c *Cache) FindImage(nameOrID string) (Image, error) {
	i, err := c.files.Image(nameOrID)
	return describeImage(i), err
}

// Images lists the images, the newest import first.
func (c *Cache) Images() ([]Image, error) {
	all, err := c.files.Images()
	return describeImages(all), err
}

// RemoveImage removes a name, and with the last name the image. Given an ID, it removes
// the image with all its names. Running machines keep running.
func (c *Cache) RemoveImage(nameOrID string) error { return c.files.RemoveImage(nameOrID) }

// PruneImages removes images without a name, except those with the given IDs, and
// returns the removed ones.
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
// nothing and needs no root privilege.
func (c *Cache) FetchKernel(ctx context.Context) (Kernel, error) {
	return c.FetchKernelFor(ctx, HostPlatform)
}

// FetchKernelFor is FetchKernel for a platform, OS/ARCHITECTURE. For another
// architecture than this host's it also calls [Cache.FetchBusybox].
func (c *Cache) FetchKernelFor(ctx context.Context, platform string) (Kernel, error) {
	a, err := architectureOf(platform)
	if err != nil {
		return Kernel{}, err
	}
	k, err := c.files.FetchKernel(ctx, string(a))
	return describe(k), err
}

// FetchBusybox downloads the small root's program for machines of another architecture
// than this host's, unless the cache has it, in the same way.
func (c *Cache) FetchBusybox(ctx context.Context, platform string) error {
	a, err := architectureOf(platform)
	if err != nil {
		return err
	}
	return c.files.FetchBusybox(ctx, string(a))
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

// RemoveKernel removes a kernel by its name, by its ID, or by at least the first eight
// characters of its ID. It refuses a name that several kernels have. Running machines
// keep running.
func (c *Cache) RemoveKernel(nameOrID string) (Kernel, error) {
	k, err := c.files.RemoveKernel(nameOrID)
	return describe(k), err
}
