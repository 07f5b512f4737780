//go:build unix

package image

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// checkScratch fails if an import has left a temporary file.
func checkScratch(t *testing.T, c *Cache) {
	t.Helper()
	if left, err := os.ReadDir(c.temporary()); err != nil || len(left) > 0 {
		t.Errorf("temporary files are left: %v, %v", left, err)
	}
}

// A stream is imported whole or refused, and its temporary file goes away.
func TestImportStream(t *testing.T) {
	c := openCache(t)
	whole := makeTar(archived{name: "file", data: []byte(strings.Repeat("x", 3000))})
	boom := errors.New("boom")
	for name, tt := range map[string]struct {
		in   io.Reader
		want string
	}{
		"whole":    {bytes.NewReader(whole), ""},
		"cut":      {bytes.NewReader(whole[:len(whole)/3]), "import image -: "},
		"empty":    {strings.NewReader(""), "import image -: the stream is empty"},
		"no image": {strings.NewReader("words"), "neither an archive"},
		"failing":  {io.MultiReader(bytes.NewReader(whole), errReader{boom}), "boom"},
	} {
		all, err := c.ImportImages(t.Context(), "-", ImportOptions{Name: "streamed", Input: tt.in})
		switch {
		case tt.want == "" && (err != nil || len(all) != 1 || all[0].Source != "-"):
			t.Errorf("%s: %+v, %v", name, all, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
		checkScratch(t, c)
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

// A stream that pauses does not hold up the end of its context, nor other imports.
func TestImportPausedStream(t *testing.T) {
	c := openCache(t)
	r, w := io.Pipe()
	defer func() { _ = w.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	go func() {
		_, _ = w.Write([]byte("a"))
		_, err := c.ImportImages(t.Context(), "-", ImportOptions{Input: bytes.NewReader(makeTar(archived{name: "f", data: []byte("x")}))})
		if err != nil {
			t.Error(err)
		}
		cancel()
	}()
	if _, err := c.ImportImages(ctx, "-", ImportOptions{Input: r}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	checkScratch(t, c)
}

// A named pipe, such as the shell makes of <(COMMAND), is a stream too.
func TestImportNamedPipe(t *testing.T) {
	c := openCache(t)
	path := filepath.Join(t.TempDir(), "pipe")
	must(t, syscall.Mkfifo(path, 0o600))
	content := makeTar(archived{name: "file", data: []byte("x")})
	go func() { _ = os.WriteFile(path, content, 0o600) }()
	if _, err := c.ImportImages(t.Context(), path, ImportOptions{Name: "piped"}); err != nil {
		t.Error(err)
	}
	checkScratch(t, c)
}
