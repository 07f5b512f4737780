package image

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func TestDependedKernel(t *testing.T) {
	for _, c := range []struct{ name, depends, want string }{
		{"debian", "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-57-cloud-amd64\n", "linux-image-6.1.0-57-cloud-amd64"},
		{"ubuntu", "linux-image-virtual\n  Depends: linux-image-6.8.0-90-generic\n  Recommends: thermald\n", "linux-image-6.8.0-90-generic"},
		{"virtual package", "linux-image-cloud-amd64\n  Depends: linux-image-amd64\n", ""},
		{"recommended only", "x\n  Recommends: linux-image-6.1.0\n", ""},
		{"nothing", "", ""},
	} {
		if got := dependedKernel(c.depends); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

// TestFetchKernelFails checks that the error holds apt's message if the servers do not
// answer, and that nothing stays in the cache.
func TestFetchKernelFails(t *testing.T) {
	bin := t.TempDir()
	script := "#!/bin/sh\necho 'E: no server answers' >&2\nexit 100\n"
	if err := os.WriteFile(filepath.Join(bin, "apt-get"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	c, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if _, err = c.FetchKernel(t.Context(), runtime.GOARCH); err == nil || !strings.Contains(err.Error(), "no server answers") {
		t.Errorf("got %v, want apt's own words", err)
	}
	if left, err := os.ReadDir(c.temporary()); err != nil || len(left) != 0 {
		t.Errorf("%v stay in the cache (%v)", left, err)
	}
}
