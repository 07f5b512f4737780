package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/agentd-go/agentd/internal/imagetest"
)

// extracted imports the layer and copies a directory of it out. It describes each file,
// and what was left.
func extracted(t *testing.T, layer []byte, dir string) (files, left []string, err error) {
	t.Helper()
	img := small(t)
	img.Layers = [][]byte{layer}
	i, err := openCache(t).ImportImage(t.Context(), writeFile(t, t.TempDir()+"/a.tar", img.Docker(t)), "")
	must(t, err)
	to := t.TempDir()
	if left, err = i.Extract(t.Context(), dir, to); err != nil {
		return nil, left, err
	}
	must(t, filepath.WalkDir(to, func(path string, _ fs.DirEntry, err error) error {
		must(t, err)
		info, err := os.Lstat(path)
		must(t, err)
		name, err := filepath.Rel(to, path)
		must(t, err)
		link, _ := os.Readlink(path) // "" if it is none.
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			t.Fatalf("%s: no owner", path)
		}
		line := strings.Join(strings.Fields(fmt.Sprint(name, " ", info.Mode(), " ", link, " ", st.Nlink)), " ")
		if os.Geteuid() == 0 {
			line += fmt.Sprintf(" %d:%d", st.Uid, st.Gid)
		}
		files = append(files, line)
		return nil
	}))
	return files, left, nil
}

// A directory is copied with all that a directory of this host may have, and what it may
// not is counted.
func TestExtract(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("owners need root")
	}
	files, left, err := extracted(t, every(t), "/")
	must(t, err)
	want := []string{
		". drwx--x--x 3 3:0", "attributes -rw-r--r-- 1 0:0", "dir dtrwxrwx--- 2 0:7", "dir/empty ---------- 1 0:0",
		"dir/large -rwxr-xr-x 1 4294967294:70000", "hard -rw-r--r-- 2 0:0", "link Lrwxrwxrwx dir/../dir/large 1 0:0", "second -rw-r--r-- 2 0:0",
		strings.Repeat("ü", 127) + " -rw-r--r-- 1 0:0",
	}
	if !slices.Equal(files, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(files, "\n"), strings.Join(want, "\n"))
	}
	if all := strings.Join(left, "; "); !strings.Contains(all, "devices") || !strings.Contains(all, "1 files lost their set-user-ID") || !strings.Contains(all, "2 files lost their extended") {
		t.Errorf("left %q", left)
	}
}

// Links in the path are followed within the image.
func TestExtractPlace(t *testing.T) {
	layer := imagetest.Tar(t, []*tar.Header{
		{Name: "srv/www/", Typeflag: tar.TypeDir, Mode: 0o750},
		{Name: "srv/www/index", Typeflag: tar.TypeReg, Mode: 0o640},
		{Name: "abs", Typeflag: tar.TypeSymlink, Linkname: "/srv"},
		{Name: "up", Typeflag: tar.TypeSymlink, Linkname: "../../srv/www"},
		{Name: "loop", Typeflag: tar.TypeSymlink, Linkname: "loop"},
	}, nil)
	for dir, want := range map[string]bool{
		"/srv/www": true, "/abs/www/": true, "/up": true, "/up/../www": true, "//srv/./www": true,
		"/srv/none": false, "/srv/www/index": false, "/none/../srv": false,
	} {
		files, _, err := extracted(t, layer, dir)
		switch {
		case !want && !errors.Is(err, ErrNoDirectory):
			t.Errorf("%s: %v, %v", dir, files, err)
		case want && (err != nil || len(files) != 2 || !strings.HasPrefix(files[0], ". drwxr-x---") || !strings.HasPrefix(files[1], "index -rw-r-----")):
			t.Errorf("%s: %q, %v", dir, files, err)
		}
	}
	if _, _, err := extracted(t, layer, "/loop"); err == nil || !strings.Contains(err.Error(), "too many symbolic links") {
		t.Errorf("a loop: %v", err)
	}
}
