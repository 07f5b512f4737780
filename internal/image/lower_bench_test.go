package image

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/agentd-go/agentd/internal/image/erofs"
	"github.com/agentd-go/agentd/internal/image/oci"
)

// benchRoot is a root to make images of: the directory that AGENTD_DEBIAN names,
// or the one that scripts/setup has made for the tests.
func benchRoot(b *testing.B) string {
	b.Helper()
	dir := os.Getenv("AGENTD_DEBIAN")
	if dir == "" {
		c, err := Open("")
		must(b, err)
		dir = filepath.Join(c.Path(), "debian")
	}
	if _, err := os.Stat(dir); err != nil {
		b.Skip(err)
	}
	return dir
}

// BenchmarkLower makes an image of the same root in our ways and by mkfs.erofs.
// None of them waits for the disk.
func BenchmarkLower(b *testing.B) {
	root := benchRoot(b)
	archive := filepath.Join(b.TempDir(), "root.tar")
	if out, err := exec.CommandContext(b.Context(), "tar", "--format=posix", "--xattrs", "-C", root, "-cf", archive, ".").CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	layer, err := fileLayer(b.Context(), archive)
	must(b, err)
	b.Run("archive", func(b *testing.B) {
		write(b, func(w *erofs.Writer) error { return addLayers(b.Context(), w, []oci.Layer{layer}) })
	})
	b.Run("directory", func(b *testing.B) {
		write(b, func(w *erofs.Writer) error { return addTree(b.Context(), w, root) })
	})
	b.Run("mkfs", func(b *testing.B) {
		if _, err := exec.LookPath("mkfs.erofs"); err != nil {
			b.Skip(err)
		}
		for b.Loop() {
			path := filepath.Join(b.TempDir(), "image")
			if out, err := exec.CommandContext(b.Context(), "mkfs.erofs", path, root).CombinedOutput(); err != nil {
				b.Fatalf("%v\n%s", err, out)
			}
			must(b, os.Remove(path))
		}
	})
}

func write(b *testing.B, fill func(*erofs.Writer) error) {
	b.Helper()
	for b.Loop() {
		f, err := os.Create(filepath.Join(b.TempDir(), "image"))
		must(b, err)
		w := erofs.NewWriter(f, erofs.Options{})
		must(b, fill(w))
		must(b, w.Close())
		info, err := f.Stat()
		must(b, err)
		b.SetBytes(info.Size())
		must(b, f.Close())
		must(b, os.Remove(f.Name()))
	}
}
