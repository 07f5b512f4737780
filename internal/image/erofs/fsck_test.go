package erofs

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// EROFS's own checker finds nothing, and unpacks the same content.
func TestFsck(t *testing.T) {
	fsck, err := exec.LookPath("fsck.erofs")
	if err != nil && os.Getenv("AGENTD_REQUIRE_MACHINES") == "1" {
		t.Fatal(err)
	} else if err != nil {
		t.Skip(err)
	}
	headers := []*tar.Header{header("a", tar.TypeReg), header("hard", tar.TypeLink), header("link", tar.TypeSymlink)}
	for i := range 3000 {
		h := header(fmt.Sprintf("d%d/%d", i%7, i), tar.TypeReg)
		h.Size, h.Format = int64(i%97*131), tar.FormatPAX
		h.PAXRecords = map[string]string{"SCHILY.xattr.user.x": strconv.Itoa(i % 11), "SCHILY.xattr.user.y": strings.Repeat("y", i*2)}
		headers = append(headers, h)
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "image"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	w := NewWriter(f, Options{})
	if err := w.AddLayer(bytes.NewReader(packed(t, headers...))); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	into := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), fsck, "--extract="+into, "--overwrite", f.Name()).CombinedOutput(); err != nil || bytes.Contains(out, []byte("<E>")) {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, h := range headers {
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if b, err := os.ReadFile(filepath.Join(into, h.Name)); err != nil || string(b) != strings.Repeat("x", int(h.Size)) {
			t.Errorf("%s has %d bytes, %v", h.Name, len(b), err)
		}
	}
}
