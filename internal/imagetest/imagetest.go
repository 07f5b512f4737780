// Package imagetest makes container images for tests, in the forms in which tools
// write them. It shares no code with what reads them.
package imagetest

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// Then is the time of everything in a layer that Files makes.
var Then = time.Unix(1_700_000_000, 0)

// Files makes a layer. A path that ends in a slash is a directory; content that
// begins with "-> " is a symbolic link; one that begins with "= " is a hard link.
func Files(tb testing.TB, files ...string) []byte {
	tb.Helper()
	var headers []*tar.Header
	content := map[string]string{}
	for i := 0; i+1 < len(files); i += 2 {
		name, text := files[i], files[i+1]
		h := &tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o755, ModTime: Then}
		switch target, symbolic := strings.CutPrefix(text, "-> "); {
		case strings.HasSuffix(name, "/"):
			h.Typeflag = tar.TypeDir
		case symbolic:
			h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, target, 0o777
		case strings.HasPrefix(text, "= "):
			h.Typeflag, h.Linkname = tar.TypeLink, strings.TrimPrefix(text, "= ")
		default:
			h.Size, content[name] = int64(len(text)), text
		}
		headers = append(headers, h)
	}
	return Tar(tb, headers, content)
}

// Tar makes an archive of headers, with the content of those that have some.
func Tar(tb testing.TB, headers []*tar.Header, content map[string]string) []byte {
	tb.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		if err := w.WriteHeader(h); err != nil {
			tb.Fatal(err)
		}
		if _, err := io.WriteString(w, content[h.Name]); err != nil {
			tb.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// An Image is what a container image is made of.
type Image struct {
	Names  []string
	Config map[string]any // As in an image's configuration: Cmd, Env and so on.
	Layers [][]byte       // Archives, the lowest first.
	// Platform is OS/ARCHITECTURE[/VARIANT] of the descriptor in a layout's index and of
	// the configuration; "" is this host's.
	Platform string
}

// platform are the three parts of Platform.
func (i Image) platform() map[string]string {
	os, rest, _ := strings.Cut(cmp.Or(i.Platform, "linux/"+runtime.GOARCH), "/")
	architecture, variant, ok := strings.Cut(rest, "/")
	p := map[string]string{"os": os, "architecture": architecture}
	if ok {
		p["variant"] = variant
	}
	return p
}

// Digest is the digest of b.
func Digest(b []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(b)) }

func document(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) //nolint:forbidigo // Only maps, lists and strings are encoded here.
	}
	return b
}

// Configuration is the document whose digest is the image's ID.
func (i Image) Configuration() []byte {
	var ids []string
	for _, l := range i.Layers {
		ids = append(ids, Digest(l))
	}
	p := i.platform()
	return document(map[string]any{
		"architecture": p["architecture"], "os": p["os"], "config": i.Config, "rootfs": map[string]any{"type": "layers", "diff_ids": ids},
	})
}

// Docker is the archive that docker save writes.
func (i Image) Docker(tb testing.TB) []byte {
	tb.Helper()
	config := i.Configuration()
	files := []string{}
	var names []string
	for n, l := range i.Layers {
		names = append(names, fmt.Sprintf("%d/layer.tar", n))
		files = append(files, names[n], string(l))
	}
	name := strings.TrimPrefix(Digest(config), "sha256:") + ".json"
	manifest := document([]any{map[string]any{"Config": name, "RepoTags": i.Names, "Layers": names}})
	return Files(tb, append(files, name, string(config), "manifest.json", string(manifest))...)
}

// Layout are the files of an OCI layout, with layers compressed by "gzip", "zstd",
// "xz" or not at all, "".
func (i Image) Layout(tb testing.TB, compression string) map[string]string {
	tb.Helper()
	files := map[string]string{"oci-layout": `{"imageLayoutVersion":"1.0.0"}`}
	blob := func(b []byte) map[string]any {
		files["blobs/sha256/"+strings.TrimPrefix(Digest(b), "sha256:")] = string(b)
		return map[string]any{"digest": Digest(b), "size": len(b)}
	}
	var layers []any
	for _, l := range i.Layers {
		d := blob(compress(tb, l, compression))
		d["mediaType"] = strings.TrimSuffix("application/vnd.oci.image.layer.v1.tar+"+compression, "+")
		layers = append(layers, d)
	}
	config := blob(i.Configuration())
	config["mediaType"] = "application/vnd.oci.image.config.v1+json"
	const manifestType = "application/vnd.oci.image.manifest.v1+json"
	manifest := blob(document(map[string]any{"schemaVersion": 2, "mediaType": manifestType, "config": config, "layers": layers}))
	manifest["mediaType"] = manifestType
	manifest["platform"] = i.platform()
	foreign := map[string]any{"mediaType": manifestType, "digest": Digest(nil), "size": 0, "platform": map[string]string{"os": "plan9", "architecture": "mips"}}
	index := map[string]any{"schemaVersion": 2, "manifests": []any{foreign, manifest}}
	if len(i.Names) > 0 {
		manifest["annotations"] = map[string]string{"org.opencontainers.image.ref.name": i.Names[0]}
	}
	files["index.json"] = string(document(index))
	return files
}

func compress(tb testing.TB, b []byte, compression string) []byte {
	tb.Helper()
	var out bytes.Buffer
	var w io.WriteCloser
	switch compression {
	case "":
		return b
	case "gzip":
		w = gzip.NewWriter(&out)
	case "zstd":
		z, err := zstd.NewWriter(&out)
		if err != nil {
			tb.Fatal(err)
		}
		w = z
	case "xz":
		x, err := xz.NewWriter(&out)
		if err != nil {
			tb.Fatal(err)
		}
		w = x
	}
	if _, err := w.Write(b); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return out.Bytes()
}

// Archive packs the files of a layout.
func Archive(tb testing.TB, files map[string]string) []byte {
	tb.Helper()
	var list []string
	for name, content := range files {
		list = append(list, name, content)
	}
	return Files(tb, list...)
}

// Unpack writes the files of a layout to dir.
func Unpack(tb testing.TB, dir string, files map[string]string) {
	tb.Helper()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			tb.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			tb.Fatal(err)
		}
	}
}

// Several returns the files of a layout with all of the images in one index.
func Several(tb testing.TB, images ...Image) map[string]string {
	tb.Helper()
	files := map[string]string{}
	var all []json.RawMessage
	for _, img := range images {
		one := img.Layout(tb, "gzip")
		var index struct{ Manifests []json.RawMessage }
		if err := json.Unmarshal([]byte(one["index.json"]), &index); err != nil {
			tb.Fatal(err)
		}
		all = append(all, index.Manifests[1]) // The first is another machine's.
		maps.Copy(files, one)
	}
	files["index.json"] = string(document(map[string]any{"schemaVersion": 2, "manifests": all}))
	return files
}
