package image

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/agentd-go/agentd/internal/image/oci"
	"github.com/agentd-go/agentd/internal/imagetest"
)

// severalDocker is an archive of docker save of all of the images.
func severalDocker(t *testing.T, images ...imagetest.Image) []byte {
	t.Helper()
	var all []json.RawMessage
	files := []string{}
	for n, img := range images {
		var one []map[string]any
		for r := tar.NewReader(bytes.NewReader(img.Docker(t))); ; {
			h, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			must(t, err)
			b, err := io.ReadAll(r)
			must(t, err)
			if h.Name == "manifest.json" {
				must(t, json.Unmarshal(b, &one))
				continue
			}
			files = append(files, fmt.Sprint(n, "-", h.Name), string(b))
		}
		one[0]["Config"] = fmt.Sprint(n, "-", one[0]["Config"])
		layers, _ := one[0]["Layers"].([]any)
		for i := range layers {
			layers[i] = fmt.Sprint(n, "-", layers[i])
		}
		b, err := json.Marshal(one[0])
		must(t, err)
		all = append(all, b)
	}
	b, err := json.Marshal(all)
	must(t, err)
	return imagetest.Files(t, append(files, "manifest.json", string(b))...)
}

// tagged is a small image that differs by its name.
func tagged(t *testing.T, platform string, names ...string) imagetest.Image {
	t.Helper()
	return imagetest.Image{Names: names, Platform: platform, Layers: [][]byte{imagetest.Files(t, "is", platform+strings.Join(names, " "))}}
}

// All images of an archive or a layout are imported by their names; SOURCE:NAME is one.
func TestSeveralImages(t *testing.T) {
	images := []imagetest.Image{tagged(t, "", "docker.io/library/web:1"), tagged(t, "", "db:2"), tagged(t, "plan9/mips", "far:1")}
	dir := t.TempDir()
	layoutDir := filepath.Join(dir, "layout")
	imagetest.Unpack(t, layoutDir, imagetest.Several(t, images...))
	for form, source := range map[string]string{
		"docker":     writeFile(t, dir+"/docker.tar", severalDocker(t, images...)),
		"compressed": writeFile(t, dir+"/docker.tar.gz", pack(t, ".gz", severalDocker(t, images...))),
		"oci":        writeFile(t, dir+"/oci.tar", imagetest.Archive(t, imagetest.Several(t, images...))),
		"layout":     layoutDir,
	} {
		t.Run(form, func(t *testing.T) {
			c := openCache(t)
			var notes []string
			ctx := WithNotes(t.Context(), func(line string) { notes = append(notes, line) })
			all, err := c.ImportImages(ctx, source, ImportOptions{})
			must(t, err)
			if len(all) != 2 || !slices.Equal(all[0].Names, []string{"docker.io/library/web:1"}) || !slices.Equal(all[1].Names, []string{"db:2"}) {
				t.Errorf("imported %+v", all)
			}
			if len(notes) != 1 || !strings.HasPrefix(notes[0], "left out: image far:1: ") || !strings.Contains(notes[0], "plan9/mips") {
				t.Errorf("notes %q", notes)
			}
			one := openCache(t)
			for name, want := range map[string]int{"web:1": 0, "library/web:1": 0, "db:2": 1} {
				i, err := one.UseImage(t.Context(), source+":"+name, ImportOptions{})
				if err != nil || i.ID != all[want].ID || len(i.Names) != 0 {
					t.Errorf("%s is %+v, %v", name, i, err)
				}
			}
			named, err := one.ImportImages(t.Context(), source+":db:2", ImportOptions{Name: "mine"})
			if err != nil || len(named) != 1 || !slices.Equal(named[0].Names, []string{"mine:latest"}) {
				t.Errorf("under a name it is %+v, %v", named, err)
			}
			for name, want := range map[string]string{
				":db:3": `no image "db:3" in it; it has docker.io/library/web:1, db:2, far:1`, ":far:1": "plan9/mips",
				"": "2 images in it: name one as SOURCE:NAME, of docker.io/library/web:1, db:2",
			} {
				if _, err := c.UseImage(t.Context(), source+name, ImportOptions{}); err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%q: got %v, want %q", name, err, want)
				}
			}
			checkNoRest(t, c)
		})
	}
}

// A name in a source that has none is an error, and a word that could be a reference is
// no file because something has its first part for a name.
func TestNameInOthers(t *testing.T) {
	t.Chdir(t.TempDir())
	writeFile(t, "root.tar", imagetest.Files(t, "a", "b"))
	writeFile(t, "tree/file", nil)
	writeFile(t, "localhost", []byte("a program"))
	c := openCache(t)
	for source, want := range map[string]string{
		"root.tar:a":        `no image "a" in it: neither an archive of docker save`,
		"./tree:a":          `no image "a" in it: neither an archive of docker save`,
		"./localhost:a":     `no image "a" in it: no archive`,
		"./nothing:a":       "no such file",
		"localhost:1/a":     "as a reference to a registry",
		"root.tar:":         "as a reference to a registry",
		"localhost:1/tree:": "as a reference to a registry",
	} {
		if _, err := c.ImportImages(t.Context(), source, ImportOptions{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", source, err, want)
		}
	}
	checkNoImage(t, c)
}

func levels(n int) oci.Levels { return func(string) int { return n } }

// The variant is the best that machines have, or the one that is asked for; an image of
// the cache that is another is not used.
func TestVariants(t *testing.T) {
	const ours = "linux/amd64"
	if _, err := oci.ParsePlatform(ours, levels(1)); err != nil {
		t.Skip("variants are those of amd64: ", err)
	}
	images := []imagetest.Image{tagged(t, ours, "a:1"), tagged(t, ours+"/v3", "a:1"), tagged(t, ours+"/v2", "a:1")}
	source := writeFile(t, t.TempDir()+"/a.tar", imagetest.Archive(t, imagetest.Several(t, images...)))
	c := openCache(t)
	for _, tt := range []struct {
		level    int
		platform string
		want     string
	}{{0, "", ours}, {1, "", ours}, {2, "", ours + "/v2"}, {3, "", ours + "/v3"}, {4, "", ours + "/v3"}, {4, ours + "/v2", ours + "/v2"}, {3, ours + "/v1", ours}} {
		o := ImportOptions{Want: oci.Want{Level: tt.level}}
		if tt.platform != "" {
			p, err := oci.ParsePlatform(tt.platform, levels(4))
			must(t, err)
			o.Want.Platform = p
		}
		for _, use := range []bool{false, true} {
			all, err := c.ImportImages(t.Context(), source, o)
			if use {
				all = make([]Image, 1)
				all[0], err = c.UseImage(t.Context(), source, o)
			}
			must(t, err)
			i := slices.IndexFunc(images, func(i imagetest.Image) bool { return imagetest.Digest(i.Configuration()) == all[0].ID })
			if len(all) != 1 || i < 0 || images[i].Platform != tt.want {
				t.Errorf("v%d, %q: image %d of %+v, want %s", tt.level, tt.platform, i, all, tt.want)
			}
		}
	}
	p, err := oci.ParsePlatform(ours+"/v2", levels(3))
	must(t, err)
	o := ImportOptions{Local: true, Want: oci.Want{Platform: p, Level: 3}}
	if i, err := c.UseImage(t.Context(), "a:1", o); err == nil { // It is v1 by now.
		t.Errorf("an image of another variant: %+v", i)
	}
	if i, err := c.UseImage(t.Context(), "none:1", ImportOptions{Local: true}); !errors.Is(err, ErrNoImage) {
		t.Errorf("none: %+v, %v", i, err)
	}
	if i, err := c.UseImage(t.Context(), "sha256:0123456789", ImportOptions{Registry: true}); err == nil || !strings.Contains(err.Error(), "an ID names nothing in a registry") {
		t.Errorf("an ID: %+v, %v", i, err)
	}
}

// A reference is asked for in its registry though a file or an image has its name.
func TestPull(t *testing.T) {
	c := openCache(t)
	reference, img := pushed(t, 1, nil)
	t.Chdir(t.TempDir())
	must(t, os.MkdirAll(filepath.Dir(reference), 0o700))
	writeFile(t, reference, imagetest.Files(t, "a", "b"))
	other, err := c.ImportImage(t.Context(), "./"+reference, reference)
	must(t, err)
	want := imagetest.Digest(img.Configuration())
	if i, err := c.UseImage(t.Context(), reference, ImportOptions{}); err != nil || i.ID != other.ID {
		t.Errorf("without a word of it: %+v, %v", i, err)
	}
	if i, err := c.UseImage(t.Context(), reference, ImportOptions{Registry: true}); err != nil || i.ID != want || !slices.Equal(i.Names, []string{reference}) {
		t.Errorf("pulled anew: %+v, %v", i, err)
	}
	all, err := c.ImportImages(t.Context(), reference, ImportOptions{Registry: true, Name: "mine"})
	if err != nil || len(all) != 1 || all[0].ID != want || !slices.Contains(all[0].Names, "mine:latest") {
		t.Errorf("pulled: %+v, %v", all, err)
	}
	if i, err := c.UseImage(t.Context(), "./"+reference, ImportOptions{Registry: true}); err != nil || i.ID != other.ID {
		t.Errorf("a path is no reference: %+v, %v", i, err)
	}
}
