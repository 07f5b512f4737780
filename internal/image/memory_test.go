package image

import (
	"archive/tar"
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// importMemory is what an import may take, with all of its process, in KiB.
const importMemory = 256 << 10

// hostileSource names a file to the process that imports it.
const hostileSource = "AGENTD_TEST_HOSTILE"

// hostile archives ask for memory; each is a few MiB of zstd at most.
var hostile = map[string]func(n int) *tar.Header{
	"links of 4 KiB": func(n int) *tar.Header {
		return &tar.Header{Name: strconv.Itoa(n), Typeflag: tar.TypeSymlink, Linkname: strings.Repeat("t", 4000)}
	},
	"link names of directories": func(n int) *tar.Header {
		return &tar.Header{Name: strconv.Itoa(n), Typeflag: tar.TypeDir, PAXRecords: map[string]string{"linkpath": strings.Repeat("l", 100_000)}}
	},
	"long names": func(n int) *tar.Header {
		return &tar.Header{Name: fmt.Sprintf("%0250d", n), Typeflag: tar.TypeReg}
	},
	"directories in each other": func(n int) *tar.Header {
		return &tar.Header{Name: fmt.Sprintf("%d/%d/%d/x", n/1000, n, n), Typeflag: tar.TypeReg}
	},
	"attributes of directories": func(n int) *tar.Header {
		return &tar.Header{Name: strconv.Itoa(n), Typeflag: tar.TypeDir, PAXRecords: map[string]string{"SCHILY.xattr.user.x": fmt.Sprintf("%060000d", n)}}
	},
	"names of 100,000 bytes": func(n int) *tar.Header {
		return &tar.Header{Name: strings.Repeat("n", 100_000) + strconv.Itoa(n), Typeflag: tar.TypeReg}
	},
}

func writeHostile(t *testing.T, path string, header func(int) *tar.Header) {
	t.Helper()
	f, err := os.Create(path)
	must(t, err)
	z, err := zstd.NewWriter(f, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	must(t, err)
	b := bufio.NewWriter(z)
	w := tar.NewWriter(b)
	for n, size := 0, 0; size < 224<<20 && n < 270_000; n++ {
		h := header(n)
		h.Format = tar.FormatPAX
		must(t, w.WriteHeader(h))
		size += 512 + len(h.Name) + len(h.Linkname)
		for _, v := range h.PAXRecords {
			size += len(v)
		}
	}
	must(t, w.Close())
	must(t, b.Flush())
	must(t, z.Close())
	must(t, f.Close())
}

// An import stays below 256 MiB of the host's memory whatever it is given, or is
// refused.
func TestImportMemory(t *testing.T) {
	if source := os.Getenv(hostileSource); source != "" {
		_, err := openCache(t).ImportImage(t.Context(), source, "")
		t.Log("import: ", err)
		return
	}
	for name, header := range hostile {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "hostile.tar.zst")
			writeHostile(t, path, header)
			cmd := exec.Command(os.Args[0], "-test.run=^TestImportMemory$", "-test.v")
			cmd.Env = append(os.Environ(), hostileSource+"="+path)
			out, err := cmd.CombinedOutput()
			must(t, err)
			usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
			if !ok || usage.Maxrss > importMemory {
				t.Errorf("the import took %d MiB, want at most %d\n%s", usage.Maxrss>>10, importMemory>>10, out)
			}
			t.Logf("%d MiB: %.300s", usage.Maxrss>>10, out)
		})
	}
}
