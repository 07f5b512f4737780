package reference

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	"debug/elf"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/agentd-go/agentd/internal/image"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// makeProgram makes an ELF program of size bytes with its section table, which
// has one empty section, at the end.
func makeProgram(machine elf.Machine, content string, interp bool, size int) []byte {
	kind := elf.PT_LOAD
	if interp {
		kind = elf.PT_INTERP
	}
	head := elf.Header64{
		Ident: [16]byte{0x7f, 'E', 'L', 'F', 2, 1, 1}, Type: uint16(elf.ET_DYN), Machine: uint16(machine), Version: 1, Entry: 1,
		Phoff: 64, Phentsize: 56, Phnum: 1, Ehsize: 64, Shoff: uint64(size - 64), Shentsize: 64, Shnum: 1,
	}
	prog := elf.Prog64{Type: uint32(kind), Off: 120, Filesz: uint64(size - 120 - 64), Memsz: uint64(size - 120 - 64)}
	var b bytes.Buffer
	_ = binary.Write(&b, binary.LittleEndian, head)
	_ = binary.Write(&b, binary.LittleEndian, prog)
	b.WriteString(content)
	b.Write(make([]byte, size-b.Len()))
	return b.Bytes()
}

func TestFindAgent(t *testing.T) {
	agent := makeProgram(elf.EM_X86_64, "agentd", false, agentMin+100)
	var program []byte
	for _, part := range [][]byte{
		makeProgram(elf.EM_X86_64, "agentd", true, 5000),
		makeProgram(elf.EM_X86_64, "agentd", true, agentMin),   // dynamic
		makeProgram(elf.EM_AARCH64, "agentd", false, agentMin), // of another machine
		makeProgram(elf.EM_X86_64, "agentd", false, 500),       // too small
		makeProgram(elf.EM_X86_64, "other", false, agentMin),
		[]byte("\x7fELF\x02\x01\x01 the magic alone"),
		agent,
		[]byte("what follows"),
	} {
		program = append(program, part...)
	}
	got, err := findAgent(program)
	must(t, err)
	if !bytes.Equal(got, agent) {
		t.Errorf("agent of %d bytes and not %d", len(got), len(agent))
	}
	for n := range 20 {
		cut := program[:bytes.LastIndex(program, []byte("agentd"))+n*100]
		if _, err := findAgent(cut); !errors.Is(err, ErrNoAgent) {
			t.Errorf("an agent cut short: %v", err)
		}
	}
}

func FuzzFindAgent(f *testing.F) {
	f.Add(append([]byte("x"), makeProgram(elf.EM_X86_64, "agentd", false, agentMin)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if agent, err := findAgent(b); err == nil && (len(agent) < agentMin || !bytes.Contains(b, agent)) {
			t.Errorf("agent of %d bytes", len(agent))
		}
	})
}

// TestPublished takes the agents out of the published programs.
func TestPublished(t *testing.T) {
	dir := os.Getenv("AGENTD_REFERENCE")
	if dir == "" {
		t.Skip("AGENTD_REFERENCE is not set: it names a directory with unpacked versions, VERSION/package/bin/msb")
	}
	sizes := map[string]int{"0.5.5": 1_680_128, "0.6.14": 1_983_264}
	for version, size := range sizes {
		r, err := OpenRelease(version, filepath.Join(dir, version, "package"))
		must(t, err)
		agent, err := ExtractAgent(r.Program)
		must(t, err)
		if len(agent) != size {
			t.Errorf("%s: agent of %d bytes and not %d", version, len(agent), size)
		}
		f, err := elf.NewFile(bytes.NewReader(agent))
		must(t, err)
		if _, err := f.ImportedLibraries(); err != nil {
			t.Errorf("%s: the agent's sections cannot be read: %v", version, err)
		}
		c, err := image.Open(t.TempDir())
		must(t, err)
		if k, err := c.ImportKernel(r.Library); err != nil || k.Console != "hvc0" || k.Initrd {
			t.Errorf("%s: kernel %+v, %v", version, k, err)
		}
	}
}

// TestFetchFromRegistry downloads a version; the network is asked for by name.
func TestFetchFromRegistry(t *testing.T) {
	version := os.Getenv("AGENTD_FETCH")
	if version == "" {
		t.Skip("AGENTD_FETCH is not set: it names a version to download")
	}
	c, err := image.Open(t.TempDir())
	must(t, err)
	r, err := Fetch(t.Context(), c, runtime.GOARCH, version)
	must(t, err)
	_, err = ExtractAgent(r.Program)
	must(t, err)
}

func makeArchive(t *testing.T, names ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, name := range names {
		must(t, w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(name))}))
		_, err := w.Write([]byte(name))
		must(t, err)
	}
	must(t, errors.Join(w.Close(), z.Close()))
	return b.Bytes()
}

// fakeNPM puts a program npm first in PATH that knows one package. It answers
// as the real one does, and only to what [download] asks.
func fakeNPM(t *testing.T, archive []byte, integrity string) {
	t.Helper()
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "archive"), archive, 0o644))
	script := fmt.Sprintf(`#!/bin/sh
echo "$1" >>%[1]s/calls
[ "$2" = "%[3]s@1.2.3" ] || { echo "no such package" >&2; exit 1; }
case $1 in
view) echo '"%[2]s"' ;;
pack) for last; do :; done; cp %[1]s/archive "$last/x-1.2.3.tgz"; echo x-1.2.3.tgz ;;
esac
`, dir, integrity, packages[runtime.GOARCH])
	must(t, os.WriteFile(filepath.Join(dir, "npm"), []byte(script), 0o755))
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	t.Cleanup(func() {
		if calls, err := os.ReadFile(filepath.Join(dir, "calls")); err == nil && strings.Count(string(calls), "pack") > 1 {
			t.Errorf("downloaded more than once: %q", calls)
		}
	})
}

func integrityOf(b []byte) string {
	sum := sha512.Sum512(b)
	return "sha512-" + base64.StdEncoding.EncodeToString(sum[:])
}

func TestFetch(t *testing.T) {
	archive := makeArchive(t, "package/package.json", "package/bin/msb", "package/lib/libkrunfw.so.5.0.0", "package/../../evil")
	fakeNPM(t, archive, integrityOf(archive))
	c, err := image.Open(t.TempDir())
	must(t, err)
	for range 2 {
		r, err := Fetch(t.Context(), c, runtime.GOARCH, "1.2.3")
		must(t, err)
		b, err := os.ReadFile(r.Program)
		if err != nil || string(b) != "package/bin/msb" || filepath.Base(r.Library) != "libkrunfw.so.5.0.0" {
			t.Errorf("release %+v: %q, %v", r, b, err)
		}
	}
	for _, version := range []string{"9.9.9", "", "--help", "1.2.3 || true"} {
		if r, err := Fetch(t.Context(), c, runtime.GOARCH, version); err == nil {
			t.Errorf("version %q: %+v", version, r)
		}
	}
}

func TestFetchRefuses(t *testing.T) {
	good := makeArchive(t, "package/bin/msb", "package/lib/libkrunfw.so.5")
	for name, c := range map[string]struct {
		archive   []byte
		integrity string
	}{
		"other bytes":    {append([]byte{}, makeArchive(t, "package/bin/msb")...), integrityOf(good)},
		"a weaker hash":  {good, "sha1-x"},
		"no library":     {makeArchive(t, "package/bin/msb"), integrityOf(makeArchive(t, "package/bin/msb"))},
		"not an archive": {[]byte("x"), integrityOf([]byte("x"))},
	} {
		t.Run(name, func(t *testing.T) {
			fakeNPM(t, c.archive, c.integrity)
			cache, err := image.Open(t.TempDir())
			must(t, err)
			if r, err := Fetch(t.Context(), cache, runtime.GOARCH, "1.2.3"); err == nil {
				t.Errorf("fetched %+v", r)
			}
		})
	}
}
