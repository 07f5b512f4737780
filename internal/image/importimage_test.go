package image

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/agentd-go/agentd/internal/filelock"
	"github.com/agentd-go/agentd/internal/image/erofs"
	"github.com/agentd-go/agentd/internal/image/oci"
	"github.com/agentd-go/agentd/internal/imagetest"
)

// small is an image of two layers, the second of which hides a file of the first.
func small(t *testing.T) imagetest.Image {
	t.Helper()
	return imagetest.Image{
		Names: []string{"small:1"},
		Config: map[string]any{
			"User": "daemon", "Env": []string{"A=1"}, "Entrypoint": []string{"/bin/sh"}, "Cmd": []string{"-c", "id"},
			"WorkingDir": "srv/.", // From "/".
			"Labels":     map[string]string{"a": "b"},
			"Volumes":    map[string]any{"/data": map[string]any{}}, "ExposedPorts": map[string]any{"80/tcp": nil}, "StopSignal": "SIGINT",
			"Healthcheck": map[string]any{"Test": []string{"CMD", "true"}, "Interval": 1e9, "Retries": 3},
		},
		Layers: [][]byte{
			imagetest.Files(t, "bin/", "", "bin/sh", "#!sh", "gone", "x", "link", "-> bin/sh", "hard", "= bin/sh"),
			imagetest.Files(t, ".wh.gone", "", "srv/", "", "srv/new", strings.Repeat("new", 5000)),
		},
	}
}

// lower is the image that layers must become.
func lower(t *testing.T, layers ...[]byte) []byte {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "lower"))
	must(t, err)
	defer func() { _ = f.Close() }()
	k := newKeyer(lowerRecipe)
	for _, l := range layers {
		k.add([]byte(imagetest.Digest(l)))
	}
	w := erofs.NewWriter(f, erofs.Options{UUID: k.uuid()})
	for _, l := range layers {
		must(t, w.AddLayer(bytes.NewReader(l)))
	}
	must(t, w.Close())
	b, err := os.ReadFile(f.Name())
	must(t, err)
	return b
}

// The same image in every form has the same identity and the same lower.
func TestImportForms(t *testing.T) {
	img := small(t)
	want := lower(t, img.Layers...)
	dir := t.TempDir()
	layoutDir := filepath.Join(dir, "layout")
	imagetest.Unpack(t, layoutDir, img.Layout(t, "gzip"))
	docker := img.Docker(t)
	layoutOf := func(compression string) string {
		at := filepath.Join(dir, "layout-"+compression)
		imagetest.Unpack(t, at, img.Layout(t, compression))
		return at
	}
	unpacked := filepath.Join(dir, "unpacked")
	extract(t, unpacked, docker)
	for form, source := range map[string]string{
		"docker":            writeFile(t, dir+"/docker.tar", docker),
		"docker compressed": writeFile(t, dir+"/docker.tar.zst", pack(t, ".zst", docker)),
		"docker unpacked":   unpacked,
		"oci":               writeFile(t, dir+"/oci.tar", imagetest.Archive(t, img.Layout(t, ""))),
		"oci gzip":          writeFile(t, dir+"/oci-gzip.tar", imagetest.Archive(t, img.Layout(t, "gzip"))),
		"oci zstd":          writeFile(t, dir+"/oci-zstd.tar", imagetest.Archive(t, img.Layout(t, "zstd"))),
		"layout":            layoutDir,
		"registry":          push(t, layoutDir, nil),
		"registry zstd":     push(t, layoutOf("zstd"), nil),
		"registry xz":       push(t, layoutOf("xz"), nil),
		"registry plain":    push(t, layoutOf(""), nil),
	} {
		t.Run(form, func(t *testing.T) {
			c := openCache(t)
			i, err := c.ImportImage(t.Context(), source, "")
			must(t, err)
			if i.ID != imagetest.Digest(img.Configuration()) || i.FSType != "erofs" || len(i.Layers) != 2 || i.Source != source {
				t.Errorf("got %+v", i)
			}
			if strings.HasPrefix(form, "registry") {
				if !slices.Equal(i.Names, []string{source}) {
					t.Errorf("names %q, want %q", i.Names, source)
				}
			} else if !slices.Equal(i.Names, img.Names) {
				t.Errorf("names %q", i.Names)
			}
			cfg := i.Config
			if cfg.User != "daemon" || cfg.WorkingDir != "/srv" || cfg.Labels["a"] != "b" || !slices.Equal(cfg.Env, []string{"A=1"}) ||
				!slices.Equal(cfg.Entrypoint, []string{"/bin/sh"}) || !slices.Equal(cfg.Cmd, []string{"-c", "id"}) {
				t.Errorf("configuration %+v", cfg)
			}
			if got, err := os.ReadFile(i.Path); err != nil || !bytes.Equal(got, want) {
				t.Errorf("the lower is another (%v)", err)
			}
			checkNoRest(t, c)
		})
	}
}

// extract unpacks regular files.
func extract(t *testing.T, dir string, archive []byte) {
	t.Helper()
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		must(t, err)
		b, err := io.ReadAll(r)
		must(t, err)
		writeFile(t, filepath.Join(dir, h.Name), b)
	}
}

// Roots without a configuration.
func TestImportRoots(t *testing.T) {
	layer := imagetest.Files(t, "./", "", "bin/", "", "bin/sh", "sh", "link", "-> bin/sh", "hard", "= bin/sh")
	dir, c := t.TempDir(), openCache(t)
	fromTar, err := c.ImportImage(t.Context(), writeFile(t, dir+"/root.tar", layer), "root")
	must(t, err)
	if got, err := os.ReadFile(fromTar.Path); err != nil || !bytes.Equal(got, lower(t, layer)) {
		t.Errorf("the lower of an archive is another (%v)", err)
	}
	zipped, err := c.ImportImage(t.Context(), writeFile(t, dir+"/root.tar.gz", pack(t, ".gz", layer)), "root:gz")
	must(t, err)
	if zipped.ID != fromTar.ID || !slices.Equal(zipped.Names, []string{"root:gz", "root:latest"}) {
		t.Errorf("compressed it is %+v, not %+v", zipped, fromTar)
	}
	tree := t.TempDir()
	writeFile(t, tree+"/bin/sh", []byte("sh"))
	must(t, os.Symlink("bin/sh", tree+"/link"))
	must(t, os.Link(tree+"/bin/sh", tree+"/hard"))
	first, err := c.ImportImage(t.Context(), tree, "")
	must(t, err)
	second, err := c.ImportImage(t.Context(), tree, "tree")
	must(t, err)
	if first.ID != second.ID || len(first.Names) != 0 || len(second.Names) != 1 {
		t.Errorf("a directory is %+v, then %+v", first, second)
	}
	must(t, os.Chmod(tree+"/bin/sh", 0o700))
	third, err := c.ImportImage(t.Context(), tree, "tree")
	must(t, err)
	if third.ID == second.ID {
		t.Error("a directory that has changed is the same image")
	}
	again, err := c.ImportImage(t.Context(), third.Path, "")
	must(t, err)
	if a, b := read(t, again.Path), read(t, third.Path); again.FSType != "erofs" || !bytes.Equal(a, b) {
		t.Errorf("an EROFS image becomes %+v", again)
	}
	disk := make([]byte, 3<<20+5)
	copy(disk[1080:], "\x53\xef")
	disk[2<<20] = 1
	ext4, err := c.ImportImage(t.Context(), writeFile(t, dir+"/disk", disk), "disk")
	must(t, err)
	if ext4.FSType != "ext4" || !bytes.Equal(read(t, ext4.Path), disk) || ext4.Size > 1<<20 {
		t.Errorf("a disk becomes %+v", ext4)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	return b
}

// What is refused leaves nothing in the cache.
func TestImportRefused(t *testing.T) {
	img := small(t)
	files := img.Layout(t, "gzip")
	change := func(prefix string, with func(string) string) map[string]string {
		m := map[string]string{}
		for name, content := range files {
			if strings.HasPrefix(content, prefix) {
				content = with(content)
			}
			m[name] = content
		}
		return m
	}
	boot := make([]byte, 4096)
	boot[510], boot[511] = 0x55, 0xaa
	hostile := img
	hostile.Layers = [][]byte{imagetest.Files(t, "a", "x"), imagetest.Files(t, "../../etc/passwd", "x")}
	other := img
	other.Names, other.Layers = []string{"other:1"}, other.Layers[:1]
	wrong := img
	wrong.Layers = wrong.Layers[:1]
	lying := append([]byte(nil), img.Docker(t)...)
	lying[bytes.Index(lying, []byte("newnew"))] = 'N'
	for _, tt := range []struct {
		name, want string
		content    []byte
	}{
		{"nothing", "neither an archive", nil},
		{"text", "neither an archive (docker save, OCI, tar) nor a disk image", []byte(strings.Repeat("text", 1000))},
		{"partitions", "a disk with partitions", boot},
		{"gzip of text", "neither an archive", pack(t, ".gz", []byte(strings.Repeat("text", 1000)))},
		{"cut short", "unexpected EOF", img.Docker(t)[:3000]},
		{"layer outside", `layer 2 of 2: entry "../../etc/passwd": not a path beneath the root`, hostile.Docker(t)},
		{"changed layer", "layer 2 of 2: content does not have its digest", lying},
		{"changed manifest", "content does not have its digest", imagetest.Archive(t, change(`{"config":{"digest"`, func(s string) string { return s + " " }))},
		{"changed configuration", "configuration: sha256:", imagetest.Archive(t, change(`{"architecture"`, func(s string) string { return s + " " }))},
		{"changed stored layer", "layer 1 of 2: ", imagetest.Archive(t, change("\x1f\x8b", func(s string) string { return s[:len(s)-12] + "x" + s[len(s)-11:] }))},
		{"two images", "2 images in it: name one as SOURCE:NAME, of small:1, other:1", severalDocker(t, img, other)},
		{"a second image that is bad", "0 layers", severalDocker(t, img, imagetest.Image{Names: []string{"bad:1"}})},
		{"no images", "it names no image", imagetest.Files(t, "oci-layout", "{}", "index.json", `{"manifests":[]}`)},
		{"no layers", "0 layers", imagetest.Files(t, "manifest.json", `[{"Config":"a"}]`, "a", `{}`)},
		{"no configuration", "configuration a: ", imagetest.Files(t, "manifest.json", `[{"Config":"a"}]`)},
		{"links in a circle", "more than 8 links", imagetest.Files(t, "manifest.json", `[{"Config":"a"}]`, "a", "-> a")},
		{"another machine", "for plan9/mips: the machine runs linux/", imagetest.Files(t, "manifest.json", `[{"Config":"a","Layers":["b"]}]`,
			"a", `{"os":"plan9","architecture":"mips","rootfs":{"diff_ids":["x"]}}`, "b", "")},
		{"no image for us", "no image for linux/", imagetest.Files(t, "index.json", `{"manifests":[{"digest":"x","platform":{"os":"plan9","architecture":"mips"}}]}`)},
		{"digest that is a path", `digest "sha256:../../x"`, imagetest.Files(t, "index.json", `{"manifests":[{"digest":"sha256:../../x"}]}`)},
		{"nested", "blobs/sha256/", imagetest.Files(t, "index.json", fmt.Sprintf(`{"manifests":[{"digest":%q}]}`, imagetest.Digest(nil)))},
		{"large document", "larger than a document", imagetest.Files(t, "index.json", strings.Repeat(" ", 5<<20))},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := openCache(t)
			path := writeFile(t, filepath.Join(t.TempDir(), "source"), tt.content)
			i, err := c.ImportImage(t.Context(), path, "name")
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %+v, %v, want an error with %q", i, err, tt.want)
			}
			checkNoImage(t, c)
		})
	}
}

func checkNoImage(t *testing.T, c *Cache) {
	t.Helper()
	checkNoRest(t, c)
	for _, kind := range []string{lowerKind, diskKind, imageKind, nameKind} {
		if left, _ := filepath.Glob(filepath.Join(c.dir, kind, "*")); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
}

func TestImportNames(t *testing.T) {
	c := openCache(t)
	path := writeFile(t, t.TempDir()+"/a.tar", small(t).Docker(t))
	for _, bad := range []string{"-x", "a b", "/x", strings.Repeat("x", 300), "ü"} {
		if _, err := c.ImportImage(t.Context(), path, bad); err == nil || !strings.Contains(err.Error(), "image name") {
			t.Errorf("name %q: %v", bad, err)
		}
	}
	if _, err := c.ImportImage(t.Context(), "./nothing", ""); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a path that is not there: %v", err)
	}
	if _, err := c.ImportImage(t.Context(), "localhost:1/nothing", ""); err == nil || !strings.Contains(err.Error(), "no such file, and as a reference to a registry:") {
		t.Errorf("a registry that is not there: %v", err)
	}
}

// A life of names and images.
func TestImages(t *testing.T) {
	c := openCache(t)
	img := small(t)
	path := writeFile(t, t.TempDir()+"/a.tar", img.Docker(t))
	i, err := c.ImportImage(t.Context(), path, "web")
	must(t, err)
	_, err = c.ImportImage(t.Context(), path, "other/web:2")
	must(t, err)
	img.Layers = img.Layers[:1]
	other, err := c.ImportImage(t.Context(), writeFile(t, path, img.Docker(t)), "")
	must(t, err)
	for _, ref := range []string{"web", "web:latest", "other/web:2", i.ID, i.ID[:20], i.ID[7:20]} {
		if got, err := c.Image(ref); err != nil || got.ID != i.ID {
			t.Errorf("%s: %+v, %v", ref, got, err)
		}
	}
	for _, ref := range []string{"web:3", "other", i.ID[7:10], "", "sha256:", "../x"} {
		if got, err := c.Image(ref); !errors.Is(err, ErrNoImage) {
			t.Errorf("%s: %+v, %v", ref, got, err)
		}
	}
	tagged, err := c.TagImage(i.ID[7:20], "again")
	if err != nil || tagged.ID != i.ID || len(tagged.Names) != 3 || tagged.Names[0] != "again:latest" {
		t.Errorf("tagged it is %+v, %v", tagged, err)
	}
	if _, err := c.TagImage("again", "/x"); err == nil || !strings.Contains(err.Error(), `image name "/x"`) {
		t.Errorf("tagged with a path: %v", err)
	}
	if _, err := c.TagImage("nothing", "x"); !errors.Is(err, ErrNoImage) {
		t.Errorf("tagged nothing: %v", err)
	}
	must(t, c.RemoveImage("again"))
	must(t, c.RemoveImage("web"))
	if got, err := c.Image("other/web:2"); err != nil || len(got.Names) != 1 {
		t.Errorf("the other name: %+v, %v", got, err)
	}
	must(t, c.RemoveImage("other/web:2"))
	if all, err := c.Images(); err != nil || len(all) != 1 || all[0].ID != other.ID || exists(i.Path) || !exists(other.Path) {
		t.Errorf("after the removal there are %+v, %v", all, err)
	}
	// A name moves to the next image; what is left without one is pruned.
	moved, err := c.ImportImage(t.Context(), writeFile(t, path, imagetest.Files(t, "a", "b")), "small:1")
	must(t, err)
	removed, err := c.PruneImages()
	must(t, err)
	if len(removed) != 1 || removed[0].ID != other.ID || exists(other.Path) || !exists(moved.Path) {
		t.Errorf("pruned %+v", removed)
	}
	must(t, c.RemoveImage(moved.ID))
	checkNoImage(t, c)
	if err := c.RemoveImage("web"); !errors.Is(err, ErrNoImage) {
		t.Errorf("a second time: %v", err)
	}
}

// While an import is going on nothing that it has made is removed.
func TestRemoveDuringImport(t *testing.T) {
	c := openCache(t)
	i, err := c.ImportImage(t.Context(), writeFile(t, t.TempDir()+"/a.tar", small(t).Docker(t)), "web")
	must(t, err)
	unlock, err := c.lockImports()
	must(t, err)
	must(t, c.RemoveImage("web"))
	if !exists(i.Path) {
		t.Error("content was removed under an import")
	}
	if _, err := c.PruneImages(); !errors.Is(err, filelock.ErrHeld) {
		t.Errorf("prune: %v", err)
	}
	unlock()
	_, err = c.PruneImages()
	must(t, err)
	checkNoImage(t, c)
}

func TestConcurrentImports(t *testing.T) {
	c := openCache(t)
	path := writeFile(t, t.TempDir()+"/a.tar", small(t).Docker(t))
	var all sync.WaitGroup
	for n := range 8 {
		all.Go(func() {
			if i, err := c.ImportImage(t.Context(), path, fmt.Sprint("n", n)); err != nil || !exists(i.Path) {
				t.Errorf("%+v, %v", i, err)
			}
		})
	}
	all.Wait()
	if all, err := c.Images(); err != nil || len(all) != 1 || len(all[0].Names) != 8 {
		t.Errorf("got %+v, %v", all, err)
	}
	checkNoRest(t, c)
}

// endless is a layer that never ends.
type endless struct{ started chan struct{} }

func (e endless) Read(b []byte) (int, error) {
	select {
	case e.started <- struct{}{}:
	default:
	}
	return len(b), nil
}

func (e endless) Close() error { return nil }

// An interrupted import ends at once and leaves nothing.
func TestInterruptedImport(t *testing.T) {
	c := openCache(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	e := endless{make(chan struct{})}
	cause := errors.New("interrupted")
	go func() {
		<-e.started
		cancel(cause)
	}()
	head := imagetest.Files(t, "a", "x")
	stream := io.MultiReader(bytes.NewReader(head), e) // Zeros after the end of the archive.
	l := oci.Layer{DiffID: oci.DigestOf(head), Open: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(stream), nil }}
	if _, err := c.lowerOfLayers(ctx, []oci.Layer{l}); !errors.Is(err, cause) {
		t.Errorf("got %v", err)
	}
	checkNoImage(t, c)
}

// The next process removes the files of a killed import, and keeps those of a running
// one.
func TestSweepsTheDead(t *testing.T) {
	c := openCache(t)
	dead, err := c.scratch("dead")
	must(t, err)
	alive, err := c.scratch("alive")
	must(t, err)
	defer alive.remove()
	must(t, dead.lock.Close())
	then := time.Now().Add(-2 * staleAfter)
	must(t, os.Chtimes(alive.dir, then, then))
	_, err = Open(c.dir)
	must(t, err)
	if exists(dead.dir) || !exists(alive.dir) {
		t.Errorf("the dead one is there: %t, the living one is: %t", exists(dead.dir), exists(alive.dir))
	}
}
