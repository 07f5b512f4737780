package sandbox

import (
	"context"
	"time"

	"github.com/agentd-go/agentd/internal/image"
)

// A Kernel is one that machines can boot, in the cache.
type Kernel struct {
	Name     string    `json:"name"`
	ID       string    `json:"id"`      // Names it too, in place of a name that two have.
	Release  string    `json:"release"` // As uname -r says it.
	Modules  bool      `json:"modules"` // It came with modules.
	Imported time.Time `json:"imported"`
	Path     string    `json:"path"` // The file that machines boot; its modules are beside it.
}

// ImportKernel puts a kernel into the cache: a Debian package (and its modules'
// package), a libkrunfw library, or a bare image.
func ImportKernel(paths ...string) (Kernel, error) {
	c, err := image.Open("")
	if err != nil {
		return Kernel{}, err
	}
	k, err := c.ImportKernel(paths...)
	return describe(k), err
}

// FetchKernel downloads the newest small kernel of the host's distribution by its
// package manager (apt), and puts it into the cache with its modules. It installs
// nothing and needs no root.
func FetchKernel(ctx context.Context) (Kernel, error) {
	return withCache(func(c *image.Cache) (Kernel, error) {
		k, err := c.FetchKernel(ctx)
		return describe(k), err
	})
}

// Kernels lists the kernels of the cache, the newest import first.
func Kernels() ([]Kernel, error) {
	c, err := image.Open("")
	if err != nil {
		return nil, err
	}
	all, err := c.Kernels()
	out := make([]Kernel, len(all))
	for i, k := range all {
		out[i] = describe(k)
	}
	return out, err
}

// RemoveKernel removes a kernel of the cache by its name, or its ID or the first eight or
// more characters of that. A name that several have is refused. Machines that run go on.
func RemoveKernel(nameOrID string) (Kernel, error) {
	return withCache(func(c *image.Cache) (Kernel, error) {
		k, err := c.RemoveKernel(nameOrID)
		return describe(k), err
	})
}

// Is reports whether a name, an ID or the first eight or more characters of one is the
// kernel's.
func (k Kernel) Is(nameOrID string) bool { return image.Kernel{Name: k.Name, ID: k.ID}.Is(nameOrID) }

func describe(k image.Kernel) Kernel {
	return Kernel{Name: k.Name, ID: k.ID, Release: k.Release, Modules: k.Modules != nil, Imported: k.Imported, Path: k.Path}
}
