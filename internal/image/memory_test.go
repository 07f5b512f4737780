package image

import (
	"archive/tar"
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"github.com/agentd-go/agentd/internal/imagetest"
)

// importMemory is what an import may take, with all of its process, in KiB.
const importMemory = 256 << 10

// memoryLimit is agentctl's limit.
const memoryLimit = 192 << 20

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

// A hostileTar is an archive of headers in a compression.
type hostileTar struct {
	header   func(int) *tar.Header
	compress func(io.Writer) (io.WriteCloser, error) // nil is zstd, the quick way.
	noise    int64                                   // Bytes of a first file, which no window can shrink.
}

func (h hostileTar) write(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	must(t, err)
	compress := h.compress
	if compress == nil {
		compress = quickZstd
	}
	z, err := compress(f)
	must(t, err)
	b := bufio.NewWriter(z)
	w := tar.NewWriter(b)
	if h.noise > 0 {
		must(t, w.WriteHeader(&tar.Header{Name: "noise", Typeflag: tar.TypeReg, Size: h.noise}))
		_, err = io.CopyN(w, rand.NewChaCha8([32]byte{}), h.noise)
		must(t, err)
	}
	for n, size := 0, 0; size < enough && n < 2*enough>>10; n++ {
		head := h.header(n)
		head.Format = tar.FormatPAX
		must(t, w.WriteHeader(head))
		size += 100 + len(head.Name) + len(head.Linkname)
		for _, v := range head.PAXRecords {
			size += len(v)
		}
	}
	must(t, w.Close())
	must(t, b.Flush())
	must(t, z.Close())
	must(t, f.Close())
}

// enough is a little more than an import keeps of anything, in bytes.
const enough = 112 << 20

func quickZstd(w io.Writer) (io.WriteCloser, error) {
	return zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
}

// wideZstd has the widest window that is read.
func wideZstd(w io.Writer) (io.WriteCloser, error) {
	return zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(zstdWindow))
}

// wideXz has the largest dictionary that is read.
func wideXz(w io.Writer) (io.WriteCloser, error) {
	return xz.WriterConfig{DictCap: xzDictionary}.NewWriter(w)
}

// longest are the names that an index has most of.
func longest(n int) *tar.Header {
	return &tar.Header{Name: fmt.Sprintf("%0250d", n), Typeflag: tar.TypeReg}
}

// sources make what asks for memory. Those that take long are made where AGENTD_LONG is.
var sources = map[string]struct {
	long bool
	make func(t *testing.T, dir string) (source string)
}{
	"a wide window and all names":      {false, tarSource(hostileTar{longest, wideZstd, zstdWindow + 1<<20})},
	"a large dictionary and all names": {true, tarSource(hostileTar{longest, wideXz, xzDictionary + 1<<20})},
	"ten thousand layers":              {false, manyLayers},
	"a document of empty values":       {false, documentOf("[", `{"Config":"c","Layers":[]},`, `{"Config":"c"}]`)},
	"an index of empty values":         {false, indexOf("{},")},
	"an index of names":                {false, indexOf(`{"digest":"` + imagetest.Digest(nil) + `","annotations":{"org.opencontainers.image.ref.name":"%d"}},`)},
	"a configuration of values":        {false, configurationOf(`"",`)},
	"a configuration of labels":        {false, labels},
	"layers of a registry":             {false, fromRegistry},
	"a million files":                  {true, millionFiles(1)},
	"a million hard links":             {true, millionFiles(2)},
}

func tarSource(h hostileTar) func(*testing.T, string) string {
	return func(t *testing.T, dir string) string {
		t.Helper()
		path := filepath.Join(dir, "source")
		h.write(t, path)
		return path
	}
}

// document fills a document of the largest size with values.
func document(head, value, tail string) string {
	const size = 4 << 20
	var b strings.Builder
	_, _ = b.WriteString(head)
	for n := 0; b.Len() < size-len(value)-len(tail)-8; n++ {
		if strings.Contains(value, "%d") {
			_, _ = fmt.Fprintf(&b, value, n)
			continue
		}
		_, _ = b.WriteString(value)
	}
	return b.String() + tail
}

func documentOf(head, value, tail string) func(*testing.T, string) string {
	return func(t *testing.T, dir string) string {
		t.Helper()
		return writeFile(t, dir+"/source", imagetest.Files(t, "manifest.json", document(head, value, tail), "c", "{}"))
	}
}

func indexOf(value string) func(*testing.T, string) string {
	return func(t *testing.T, dir string) string {
		t.Helper()
		index := document(`{"manifests":[`, value, `{"digest":"`+imagetest.Digest(nil)+`"}]}`)
		return writeFile(t, dir+"/source", imagetest.Files(t, "oci-layout", "{}", "index.json", index, "blobs/sha256/"+imagetest.Digest(nil)[7:], ""))
	}
}

func configurationOf(value string) func(*testing.T, string) string {
	return withConfiguration(`{"config":{"Env":[`, value, `"A=1"]},`)
}

func labels(t *testing.T, dir string) string {
	t.Helper()
	return withConfiguration(`{"config":{"Labels":{`, `"%d":"",`, `"":""}},`)(t, dir)
}

// withConfiguration is an archive of many images, each with a configuration of the
// largest size.
func withConfiguration(head, value, tail string) func(*testing.T, string) string {
	return func(t *testing.T, dir string) string {
		t.Helper()
		const images = 20
		layer := imagetest.Files(t, "a", "b")
		files := []string{"l", string(layer)}
		var list []string
		for n := range images {
			name := strconv.Itoa(n)
			end := tail + `"rootfs":{"diff_ids":["` + imagetest.Digest(layer) + `"]},"created":"2020-01-01T00:00:00Z","n":"` + name + `"}`
			files = append(files, name, document(head, value, end))
			list = append(list, `{"Config":"`+name+`","RepoTags":["a:`+name+`"],"Layers":["l"]}`)
		}
		return writeFile(t, dir+"/source", imagetest.Files(t, append(files, "manifest.json", "["+strings.Join(list, ",")+"]")...))
	}
}

func manyLayers(t *testing.T, dir string) string {
	t.Helper()
	const layers = 10_000
	layer := imagetest.Files(t, "a", "b")
	config := fmt.Sprintf(`{"rootfs":{"diff_ids":[%s""]}}`, strings.Repeat(`"`+imagetest.Digest(layer)+`",`, layers-1))
	manifest := fmt.Sprintf(`[{"Config":"c","Layers":[%s"l"]}]`, strings.Repeat(`"l",`, layers-1))
	return writeFile(t, dir+"/source", imagetest.Files(t, "l", string(layer), "c", config, "manifest.json", manifest))
}

// fromRegistry are six layers of 16 MiB that cannot be compressed, of which several come at
// once. The registry is this process, the import another.
func fromRegistry(t *testing.T, dir string) string {
	t.Helper()
	img := imagetest.Image{}
	for n := range 2 * fetchesAtOnce {
		b := make([]byte, 16<<20)
		_, _ = rand.NewChaCha8([32]byte{byte(n)}).Read(b)
		img.Layers = append(img.Layers, imagetest.Files(t, strconv.Itoa(n), string(b)))
	}
	imagetest.Unpack(t, dir, img.Layout(t, "zstd"))
	return push(t, dir, nil)
}

// millionFiles is a directory of empty files with so many names each.
func millionFiles(names int) func(*testing.T, string) string {
	return func(t *testing.T, dir string) string {
		t.Helper()
		const files = 1_000_000
		dir = filepath.Join(dir, strings.Repeat("d", 100))
		must(t, os.Mkdir(dir, 0o700))
		for n := range files / names {
			name := filepath.Join(dir, fmt.Sprintf("%0100d", n))
			must(t, os.WriteFile(name, nil, 0o600))
			for more := 1; more < names; more++ {
				must(t, os.Link(name, fmt.Sprint(name, "-", more)))
			}
		}
		return filepath.Dir(dir)
	}
}

// An import stays below 256 MiB of the host's memory whatever it is given, or is
// refused.
func TestImportMemory(t *testing.T) {
	if source := os.Getenv(hostileSource); source != "" {
		debug.SetMemoryLimit(memoryLimit)
		_, err := openCache(t).ImportImages(t.Context(), source, ImportOptions{})
		t.Log("import: ", err)
		status, err := os.ReadFile("/proc/self/status")
		must(t, err)
		_, peak, _ := strings.Cut(string(status), "VmHWM:")
		t.Log("peak:", strings.Fields(peak)[0])
		return
	}
	for name, header := range hostile {
		t.Run(name, func(t *testing.T) { checkMemory(t, tarSource(hostileTar{header: header})(t, t.TempDir())) })
	}
	for name, s := range sources {
		t.Run(name, func(t *testing.T) {
			if s.long && os.Getenv("AGENTD_LONG") == "" {
				t.Skip("with AGENTD_LONG=1 only: it takes minutes")
			}
			checkMemory(t, s.make(t, t.TempDir()))
		})
	}
}

// checkMemory imports in a process of its own. Its peak is that which the process sees:
// the parent's may be counted in that which is told at its end.
func checkMemory(t *testing.T, source string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestImportMemory$", "-test.v")
	cmd.Env = append(os.Environ(), hostileSource+"="+source)
	start := time.Now()
	out, err := cmd.CombinedOutput()
	must(t, err)
	_, said, _ := strings.Cut(string(out), "import: ")
	result, rest, _ := strings.Cut(said, "memory_test.go")
	_, peak, _ := strings.Cut(rest, "peak: ")
	kib, err := strconv.Atoi(strings.Fields(peak)[0])
	must(t, err)
	if kib > importMemory {
		t.Errorf("the import took %d MiB, want at most %d\n%.1000s", kib>>10, importMemory>>10, result)
	}
	t.Logf("%d MiB, %v: %.250s", kib>>10, time.Since(start).Round(time.Millisecond), strings.TrimSpace(result))
}
