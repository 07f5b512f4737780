package sandbox

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/agentd-go/agentd/internal/image"
)

// SmallRootHas reports whether the default root, which a machine without a Root or
// Image gets, has a program of that name in its PATH.
func SmallRootHas(name string) (bool, error) {
	if strings.Contains(name, "/") {
		return false, nil
	}
	busybox, err := image.FindBusybox()
	if err != nil {
		return false, err
	}
	cache, err := image.Open("")
	if err != nil {
		return false, err
	}
	root, err := cache.BusyboxRoot(busybox)
	if err != nil {
		return false, err
	}
	for _, dir := range []string{"usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin", "sbin", "bin"} {
		if _, err := os.Lstat(filepath.Join(root, dir, name)); err == nil {
			return true, nil
		}
	}
	return false, nil
}
