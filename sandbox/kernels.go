package sandbox

import (
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

// Is reports whether a name, an ID or the first eight or more characters of one is the
// kernel's.
func (k Kernel) Is(nameOrID string) bool { return image.Kernel{Name: k.Name, ID: k.ID}.Is(nameOrID) }

func describe(k image.Kernel) Kernel {
	return Kernel{Name: k.Name, ID: k.ID, Release: k.Release, Modules: k.Modules != nil, Imported: k.Imported, Path: k.Path}
}
