package oci

import (
	"bytes"
	"io"
	"testing"

	"github.com/agentd-go/agentd/internal/imagetest"
)

// Whatever an archive says, it is refused, or every layer of it can be read and is
// no longer than the archive.
func FuzzOpenArchive(f *testing.F) {
	img := imagetest.Image{Names: []string{"a:1"}, Layers: [][]byte{imagetest.Files(f, "a", "b")}}
	f.Add(img.Docker(f))
	f.Add(imagetest.Archive(f, img.Layout(f, "gzip")))
	f.Add(imagetest.Files(f, "manifest.json", `[{"Config":"c","Layers":["l","l"]}]`, "c", "-> l", "l", `{"rootfs":{"diff_ids":[]}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		all, err := OpenArchive(bytes.NewReader(b), bytes.NewReader(b))
		if err != nil {
			return
		}
		_, _ = all.Each(t.Context(), Want{}, func(img *Image) error {
			readLayers(t, img, int64(len(b)))
			return nil
		})
	})
}

func readLayers(t *testing.T, img *Image, most int64) {
	t.Helper()
	for _, l := range img.Layers {
		r, err := l.Open(t.Context())
		if err != nil {
			continue
		}
		if n, _ := io.Copy(io.Discard, r); n > most {
			t.Fatalf("a layer of %d bytes in an archive of %d", n, most)
		}
		_ = r.Close()
	}
}
