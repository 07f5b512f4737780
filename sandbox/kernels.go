package sandbox

import (
	"time"

	"github.com/agentd-go/agentd/internal/image"
)

// A Kernel is a kernel in the cache that machines can boot.
type Kernel struct {
	Name     string    `json:"name"`
	ID       string    `json:"id"`       // Identifies it if two kernels have the same name.
	Platform string    `json:"platform"` // Of its machines: linux/amd64 or linux/arm64.
	Release  string    `json:"release"`  // As uname -r says it.
	Modules  bool      `json:"modules"`  // It has modules.
	Imported time.Time `json:"imported"`
	Path     string    `json:"path"` // The file that machines boot; its modules are in the same directory.
}

// Is reports whether nameOrID is the kernel's name, its ID, or at least the first eight
// characters of its ID.
func (k Kernel) Is(nameOrID string) bool { return image.Kernel{Name: k.Name, ID: k.ID}.Is(nameOrID) }

func describe(k image.Kernel) Kernel {
	return Kernel{
		Name: k.Name, ID: k.ID, Platform: "linux/" + k.Architecture, Release: k.Release, Modules: k.Modules != nil, Imported: k.Imported, Path: k.Path,
	}
}
