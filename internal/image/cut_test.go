package image

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/agentd-go/agentd/internal/imagetest"
)

// cutSources are files that can be imported, by their names.
func cutSources(t *testing.T) map[string][]byte {
	t.Helper()
	noise := make([]byte, 40<<10)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(noise)
	root := imagetest.Files(t, "./", "", "bin/", "", "bin/sh", string(noise), "etc/passwd", "root", "link", "-> bin/sh", "z", "last")
	img := small(t)
	disk := make([]byte, 3<<19)
	copy(disk[1080:], "\x53\xef")
	binary.LittleEndian.PutUint32(disk[1028:], uint32(len(disk)>>10))
	copy(disk[1<<20:], noise)
	return map[string][]byte{
		"root":   root,
		"docker": img.Docker(t),
		"oci":    imagetest.Archive(t, img.Layout(t, "gzip")),
		"ext4":   disk,
		"erofs":  lower(t, root),
	}
}

// cutForms are the ways in which a source is stored.
func cutForms(t *testing.T, b []byte) map[string][]byte {
	t.Helper()
	forms := map[string][]byte{"": b}
	half := len(b) / 2 / 512 * 512
	for _, ext := range []string{".gz", ".zst", ".xz"} {
		forms[ext] = pack(t, ext, b)
		forms[ext+" in two"] = append(pack(t, ext, b[:half]), pack(t, ext, b[half:])...)
	}
	z, err := zstd.NewWriter(nil, zstd.WithEncoderCRC(false))
	must(t, err)
	forms[".zst without checksum"] = z.EncodeAll(b, nil)
	forms[".zst skippable first"] = append([]byte("\x5a\x2a\x4d\x18\x04\x00\x00\x00text"), pack(t, ".zst", b)...)
	return forms
}

// An import of a file that is cut at any place either is complete or fails and leaves
// nothing.
func TestCutSources(t *testing.T) {
	cuts := 150
	if os.Getenv("AGENTD_LONG") != "" {
		cuts = 25_000 // Three of five sources are archives, two disks.
	}
	seed := rand.Uint64()
	if testing.Verbose() {
		t.Logf("seed %d", seed)
	}
	r := rand.New(rand.NewPCG(seed, 1))
	type source struct {
		name         string
		stored, want []byte
	}
	var all []source
	dir := t.TempDir()
	for name, b := range cutSources(t) {
		for form, stored := range cutForms(t, b) {
			i, err := openCache(t).ImportImage(t.Context(), writeFile(t, dir+"/whole", stored), "")
			must(t, err)
			all = append(all, source{name + form, stored, read(t, i.Path)})
		}
	}
	whole, c := 0, openCache(t)
	for n := range cuts {
		s := all[n%len(all)]
		at := r.IntN(len(s.stored))
		if n/len(all)%2 == 0 { // Half of the cuts are where trailers are.
			at = len(s.stored) - 1 - r.IntN(min(len(s.stored), 64))
		}
		i, err := c.ImportImage(t.Context(), writeFile(t, dir+"/cut", s.stored[:at]), "")
		if err == nil {
			whole++
			if got := read(t, i.Path); !bytes.Equal(got, s.want) {
				t.Errorf("seed %d: %s cut at %d of %d: imported %d bytes, want %d or an error", seed, s.name, at, len(s.stored), len(got), len(s.want))
			}
			must(t, c.RemoveImage(i.ID))
		}
		checkNoImage(t, c)
	}
	t.Logf("%d cuts: %d imported whole, %d refused", cuts, whole, cuts-whole)
}

// If an archive is cut between two entries, only the missing end blocks show it.
func TestArchiveWithoutEnd(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range []string{"a", "b"} {
		must(t, w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644}))
	}
	must(t, w.Flush())
	open, zero := b.Bytes(), make([]byte, 512)
	for zeros, want := range []string{"no end blocks", "", ""} {
		c := openCache(t)
		stored := append(bytes.Clone(open), bytes.Repeat(zero, zeros)...)
		for _, ext := range []string{"", ".gz"} {
			if ext != "" {
				stored = pack(t, ext, stored)
			}
			_, err := c.ImportImage(t.Context(), writeFile(t, t.TempDir()+"/a", stored), "")
			if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
				t.Errorf("%d end blocks%s: %v, want %q", zeros, ext, err, want)
			}
		}
	}
	// As a layer it has a digest, which shows that it is whole.
	img := small(t)
	img.Layers = append(img.Layers, open)
	_, err := openCache(t).ImportImage(t.Context(), writeFile(t, t.TempDir()+"/a", img.Docker(t)), "")
	must(t, err)
}

// A root may have files with the names of an image's documents.
func TestRootWithDocuments(t *testing.T) {
	for _, content := range []string{`{"name":"app"}`, `[]`, `[{"a":1}]`, `text`, `{"manifests":[]}`} {
		for _, name := range []string{"manifest.json", "index.json"} {
			i, err := openCache(t).ImportImage(t.Context(), writeFile(t, t.TempDir()+"/a", imagetest.Files(t, "bin/sh", "sh", name, content)), "")
			if err != nil || i.Config.OS != "" {
				t.Errorf("%s with %s: %+v, %v", name, content, i, err)
			}
		}
	}
}

// Bytes after the end of a stream are refused, except the padding that the formats' own
// programs accept.
func TestBehindTheStream(t *testing.T) {
	root := imagetest.Files(t, "a", "x")
	for _, tt := range []struct {
		ext, behind string
		ok          bool
	}{
		{".gz", strings.Repeat("\x00", 1000), true},
		{".gz", "garbage", false},
		{".gz", "\x00\x00garbage", false},
		{".gz", "\x1f\x8b", false},
		{".gz", "\x1f", false},
		{".xz", "\x00\x00\x00\x00", true},
		{".xz", "\x00\x00\x00", false},
		{".xz", "garbage", false},
		{".xz", "\xfd7zXZ", false},
		{".zst", "\x50\x2a\x4d\x18\x01\x00\x00\x00x", true},
		{".zst", "garbage", false},
		{".zst", "\x28", false},
		{".zst", "\x28\xb5\x2f", false},
		{".zst", "\x00", false},
		{".zst", "\x50\x2a\x4d\x18\x09\x00\x00\x00x", false},
	} {
		stored := append(pack(t, tt.ext, root), tt.behind...)
		c := openCache(t)
		_, err := c.ImportImage(t.Context(), writeFile(t, t.TempDir()+"/a", stored), "")
		if (err == nil) != tt.ok {
			t.Errorf("%s and %q: %v, want success %t", tt.ext, tt.behind, err, tt.ok)
		}
		if err != nil {
			checkNoImage(t, c)
		}
	}
}

// A disk that is shorter than its file system is refused, for each type of file system.
func TestCutDisks(t *testing.T) {
	const size = 1 << 20
	le, be := binary.LittleEndian, binary.BigEndian
	for fstype, fill := range map[string]func([]byte){
		fsExt4: func(b []byte) {
			copy(b[1080:], "\x53\xef")
			le.PutUint32(b[1048:], 2)
			le.PutUint32(b[1028:], size>>12)
		},
		"ext4 64bit": func(b []byte) {
			copy(b[1080:], "\x53\xef")
			le.PutUint32(b[1120:], 0x80)
			le.PutUint32(b[1028:], size>>10)
		},
		fsErofs: func(b []byte) { copy(b[1024:], "\xe2\xe1\xf5\xe0"); b[1036] = 12; le.PutUint32(b[1060:], size>>12) },
		fsXFS:   func(b []byte) { copy(b, "XFSB"); be.PutUint32(b[4:], 4096); be.PutUint64(b[8:], size>>12) },
		fsBtrfs: func(b []byte) { copy(b[65600:], "_BHRfS_M"); le.PutUint64(b[65536+209:], size) },
	} {
		b := make([]byte, size)
		fill(b)
		for _, n := range []int{size, size - 1, 128 << 10} {
			c := openCache(t)
			_, err := c.ImportImage(t.Context(), writeFile(t, filepath.Join(t.TempDir(), "disk"), b[:n]), "")
			if n == size && err != nil || n < size && !errors.Is(err, errCut) {
				t.Errorf("%s of %d bytes: %v", fstype, n, err)
			}
		}
	}
}

// A package that is cut gives no kernel.
func TestCutDeb(t *testing.T) {
	for _, ext := range []string{"", ".gz", ".xz", ".zst"} {
		b := makeDeb(t, ext, archived{name: "./boot/vmlinuz-1", data: bytes.Repeat([]byte("x"), 2000)})
		for at := range len(b) - 1 {
			if err := walkDeb(bytes.NewReader(b[:at]), discard); err == nil {
				t.Errorf("data.tar%s: cut at %d of %d it is read as whole", ext, at, len(b))
			}
		}
	}
}

func discard(_ string, r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	return err
}
