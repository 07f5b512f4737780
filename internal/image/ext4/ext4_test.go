package ext4

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

var options = Options{UUID: [16]byte{1, 2, 3, 4, 5, 6, 0x47, 8, 0x89}, Label: "upper", Time: time.Unix(1_700_000_000, 0)}

func format(t *testing.T, size int64) string {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if err := Format(f, size, options); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

// find returns a program of e2fsprogs.
func find(t *testing.T, name string) string {
	t.Helper()
	for _, dir := range []string{"", "/usr/sbin/", "/sbin/"} {
		if path, err := exec.LookPath(dir + name); err == nil {
			return path
		}
	}
	if os.Getenv("AGENTD_REQUIRE_MACHINES") == "1" {
		t.Fatalf("no %s", name)
	}
	t.Skipf("no %s", name)
	return ""
}

// e2fsck finds nothing, whatever the size makes of the last group.
func TestFsck(t *testing.T) {
	fsck := find(t, "e2fsck")
	const group = groupBlocks * blockSize
	sizes := []int64{
		MinSize, MinSize + 1, 100 << 20, group - 1, group, group + 1, group + 2<<20, group + 3<<20, 2*group - blockSize, 2 * group,
		2*group + 1<<20, 8 << 30, 9*group + 100*blockSize,
	}
	if os.Getenv("AGENTD_LONG") == "1" { // e2fsck needs half a minute for a TiB.
		sizes = append(sizes, 100<<30+12345, MaxSize)
	}
	for _, size := range sizes {
		t.Run(strconv.FormatInt(size, 10), func(t *testing.T) {
			path := format(t, size)
			out, err := exec.CommandContext(t.Context(), fsck, "-f", "-n", path).CombinedOutput()
			if err != nil {
				t.Errorf("%v\n%s", err, out)
			}
			info, err := os.Stat(path)
			if err != nil || info.Size() != size {
				t.Errorf("the file has %d bytes, %v", info.Size(), err)
			}
			if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Blocks*512 > 1<<20+size/10_000 {
				t.Errorf("%d bytes of the disk are taken", st.Blocks*512)
			}
		})
	}
}

// It can grow to what its reserve allows; a kernel uses the reserve in the same way.
func TestGrow(t *testing.T) {
	resize, fsck := find(t, "resize2fs"), find(t, "e2fsck")
	for from, to := range map[int64]int64{MinSize: 20 << 30, 64 << 20: 4 << 30, 8 << 30: 100 << 30} {
		path := format(t, from)
		if err := os.Truncate(path, to); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.CommandContext(t.Context(), resize, "-f", path).CombinedOutput(); err != nil {
			t.Fatalf("from %d to %d: %v\n%s", from, to, err, out)
		}
		if out, err := exec.CommandContext(t.Context(), fsck, "-f", "-n", path).CombinedOutput(); err != nil {
			t.Errorf("from %d to %d: %v\n%s", from, to, err, out)
		}
	}
}

// tune2fs reads the requested values.
func TestHeader(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), find(t, "dumpe2fs"), format(t, 1<<30)).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{
		"01020304-0506-4708-8900-000000000000", "volume name:   upper", "has_journal ext_attr resize_inode dir_index filetype extent sparse_super large_file huge_file dir_nlink extra_isize",
		"Block count:              262144", "Inode count:              65536", "Total journal blocks:     16384", "Filesystem state:         clean", "Reserved GDT blocks:      63",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}

func TestSizes(t *testing.T) {
	for _, size := range []int64{-1, 0, MinSize - 1, MaxSize + 1} {
		f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
		if err != nil {
			t.Fatal(err)
		}
		if err := Format(f, size, options); !errors.Is(err, ErrSize) {
			t.Errorf("%d bytes: %v", size, err)
		}
		_ = f.Close()
	}
}

// The same options give the same bytes.
func TestGolden(t *testing.T) {
	b, err := os.ReadFile(format(t, 200<<20))
	if err != nil {
		t.Fatal(err)
	}
	const want = "b804ae95cdeb8739ea67f6d11dc0f0f5e5a8f5da63ae61de906a622bb511a268"
	if got := fmt.Sprintf("%x", sha256.Sum256(b)); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
