package image

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agentd-go/agentd/internal/imagetest"
)

// every is a layer with a file of each type, in the order of their names.
func every(t *testing.T) []byte {
	t.Helper()
	when := time.Unix(1_700_000_000, 123456789)
	const acl = "\x02\x00\x00\x00\x01\x00\x06\x00\xff\xff\xff\xff\x04\x00\x04\x00\xff\xff\xff\xff\x20\x00\x04\x00\xff\xff\xff\xff"
	headers := []*tar.Header{
		{Name: "./", Typeflag: tar.TypeDir, Mode: 0o711, Uid: 3},
		{Name: "attributes", Typeflag: tar.TypeReg, Mode: 0o644, Size: 1, PAXRecords: map[string]string{
			"SCHILY.xattr.user.a": "b\x00c", "SCHILY.xattr.security.capability": "\x01\x00\x00\x02", "SCHILY.xattr.system.posix_acl_access": acl,
		}},
		{Name: "block", Typeflag: tar.TypeBlock, Mode: 0o660, Devmajor: 8, Devminor: 1234},
		{Name: "char", Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 4095, Devminor: 1<<20 - 1},
		{Name: "dir/", Typeflag: tar.TypeDir, Mode: 0o3770, Gid: 7},
		{Name: "dir/empty", Typeflag: tar.TypeReg, Mode: 0},
		{Name: "dir/fifo", Typeflag: tar.TypeFifo, Mode: 0o600},
		{Name: "dir/large", Typeflag: tar.TypeReg, Mode: 0o4755, Size: 10_000, Uid: 1<<32 - 2, Gid: 70_000},
		{Name: "hard", Typeflag: tar.TypeReg, Mode: 0o644, Size: 5, PAXRecords: map[string]string{"SCHILY.xattr.user.a": "b\x00c"}},
		{Name: "link", Typeflag: tar.TypeSymlink, Linkname: "dir/../dir/large", Mode: 0o777},
		{Name: "second", Typeflag: tar.TypeLink, Linkname: "hard"},
		{Name: strings.Repeat("ü", 127), Typeflag: tar.TypeReg, Mode: 0o644, Size: 4096},
	}
	content := map[string]string{}
	for _, h := range headers {
		h.Format = tar.FormatPAX
		if h.Typeflag != tar.TypeLink {
			h.ModTime = when
		}
		content[h.Name] = strings.Repeat("x", int(h.Size))
	}
	return imagetest.Tar(t, headers, content)
}

// entries are the headers and contents of an archive, one a line.
func entries(t *testing.T, b []byte) (all []string) {
	t.Helper()
	for r := tar.NewReader(bytes.NewReader(b)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		must(t, err)
		content, err := io.ReadAll(r)
		must(t, err)
		if h.Typeflag == tar.TypeLink {
			h.Mode, h.Uid, h.Gid, h.ModTime = 0, 0, 0, time.Time{}
		}
		line := []string{fmt.Sprintln(h.Name, string(h.Typeflag), h.Linkname, h.Mode, h.Uid, h.Gid, h.Devmajor, h.Devminor, h.ModTime.UnixNano(), len(content))}
		for _, key := range slices.Sorted(maps.Keys(h.PAXRecords)) {
			if strings.HasPrefix(key, "SCHILY.") {
				line = append(line, fmt.Sprintf("%s=%q\n", key, h.PAXRecords[key]))
			}
		}
		all = append(all, strings.Join(line, ""))
	}
}

// A saved image has all that its layers have: it is imported with the same files, names
// and configuration, and saved again with the same bytes.
func TestSave(t *testing.T) {
	img := small(t)
	img.Layers = [][]byte{every(t)}
	dir, c := t.TempDir(), openCache(t)
	i, err := c.ImportImage(t.Context(), writeFile(t, dir+"/a.tar", img.Docker(t)), "")
	must(t, err)
	var out bytes.Buffer
	must(t, c.SaveImages(t.Context(), &out, "small:1"))
	_, layer := savedLayer(t, out.Bytes())
	if got, want := entries(t, layer), entries(t, img.Layers[0]); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, ""), strings.Join(want, ""))
	}
	other := openCache(t)
	again, err := other.ImportImage(t.Context(), writeFile(t, dir+"/b.tar", out.Bytes()), "")
	must(t, err)
	if !slices.Equal(again.Names, i.Names) || !reflect.DeepEqual(again.Config, i.Config) {
		t.Errorf("it is imported as %+v, was %+v", again, i)
	}
	var second bytes.Buffer
	must(t, other.SaveImages(t.Context(), &second, "small:1"))
	if !bytes.Equal(out.Bytes(), second.Bytes()) {
		t.Error("saved again it is another archive")
	}
}

// savedLayer are the manifest and the first layer of an archive.
func savedLayer(t *testing.T, archive []byte) (manifest string, layer []byte) {
	t.Helper()
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return manifest, layer
		}
		must(t, err)
		b, err := io.ReadAll(r)
		must(t, err)
		switch {
		case h.Name == "manifest.json":
			manifest = string(b)
		case strings.HasSuffix(h.Name, ".tar") && layer == nil:
			layer = b
		}
	}
}

// Several images stand in one archive, equal ones once, by the names that were asked for.
func TestSaveSeveral(t *testing.T) {
	c, dir := openCache(t), t.TempDir()
	a, b := tagged(t, "", "a:1"), tagged(t, "", "b:1")
	_, err := c.ImportImages(t.Context(), writeFile(t, dir+"/a", severalDocker(t, a, b)), ImportOptions{})
	must(t, err)
	tree, err := c.ImportImage(t.Context(), writeFile(t, dir+"/tree/file", []byte("x"))[:len(dir)+len("/tree")], "")
	must(t, err)
	_, err = c.TagImage("a:1", "more:1")
	must(t, err)
	var out bytes.Buffer
	must(t, c.SaveImages(t.Context(), &out, "a:1", "b:1", "more:1", tree.ID))
	manifest, _ := savedLayer(t, out.Bytes())
	if !strings.Contains(manifest, `["a:1","more:1"]`) || !strings.Contains(manifest, `["b:1"]`) || strings.Count(manifest, "Config") != 3 {
		t.Errorf("manifest %s", manifest)
	}
	all, err := openCache(t).ImportImages(t.Context(), writeFile(t, dir+"/out", out.Bytes()), ImportOptions{})
	if err != nil || len(all) != 3 || len(all[0].Names) != 2 || len(all[2].Names) != 0 {
		t.Errorf("imported %+v, %v", all, err)
	}
}

func TestSaveRefused(t *testing.T) {
	c, dir := openCache(t), t.TempDir()
	disk := make([]byte, 1<<20)
	copy(disk[1080:], "\x53\xef")
	_, err := c.ImportImage(t.Context(), writeFile(t, dir+"/disk", disk), "disk")
	must(t, err)
	writeFile(t, dir+"/hidden/.wh.file", nil)
	_, err = c.ImportImage(t.Context(), dir+"/hidden", "hidden")
	must(t, err)
	_, err = c.ImportImage(t.Context(), writeFile(t, dir+"/a", small(t).Docker(t)), "")
	must(t, err)
	for name, want := range map[string]string{
		"nothing": "no such image: nothing", "disk": "this one is a disk with ext4: copy ", "hidden": `".wh.file": a layer cannot have a name that begins with ".wh."`,
	} {
		if err := c.SaveImages(t.Context(), io.Discard, name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", name, err, want)
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("interrupted")
	cancel(cause)
	if err := c.SaveImages(ctx, io.Discard, "small:1"); !errors.Is(err, cause) {
		t.Errorf("interrupted: %v", err)
	}
	if err := c.SaveImages(t.Context(), full{}, "small:1"); !errors.Is(err, errFull) {
		t.Errorf("a full disk: %v", err)
	}
}

var errFull = errors.New("full")

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errFull }

// Whatever is in the file of a lower, it is saved or refused, without more memory or
// time than it has bytes for.
func TestSaveDamaged(t *testing.T) {
	c := openCache(t)
	img := small(t)
	img.Layers = append(img.Layers, every(t))
	i, err := c.ImportImage(t.Context(), writeFile(t, t.TempDir()+"/a", img.Docker(t)), "")
	must(t, err)
	whole := read(t, i.Path)
	random := rand.New(rand.NewPCG(1, 2))
	for n := range 2000 {
		b := bytes.Clone(whole)
		for range 1 + random.IntN(4) {
			b[1024+random.IntN(len(b)-1024)] = byte(random.UintN(256))
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		err := writeLayer(ctx, bytes.NewReader(b), &limited{64 << 20}, func(string) {})
		if ctx.Err() != nil {
			t.Errorf("change %d takes too long: %v", n, err)
		}
		cancel()
	}
}

// limited takes so many bytes.
type limited struct{ left int }

func (l *limited) Write(b []byte) (int, error) {
	if l.left -= len(b); l.left < 0 {
		return 0, errFull
	}
	return len(b), nil
}
