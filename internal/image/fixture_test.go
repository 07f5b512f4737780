package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

var update = flag.Bool("update", false, "write the golden files")

// golden compares got with testdata/name.
func golden(t *testing.T, name, got string) {
	t.Helper()
	p := filepath.Join("testdata", name)
	if *update {
		must(t, os.WriteFile(p, []byte(got), 0o644))
	}
	want, err := os.ReadFile(p)
	must(t, err)
	if got != string(want) {
		t.Errorf("%s (go test -run %s -update writes it anew)\ngot:\n%s\nwant:\n%s", p, t.Name(), got, want)
	}
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func openCache(tb testing.TB) *Cache {
	tb.Helper()
	c, err := Open(filepath.Join(tb.TempDir(), "cache [of] tests*")) // A name, though a pattern too.
	must(tb, err)
	c.host = tb.TempDir()
	return c
}

func writeFile(tb testing.TB, name string, b []byte) string {
	tb.Helper()
	must(tb, os.MkdirAll(filepath.Dir(name), 0o755))
	must(tb, os.WriteFile(name, b, 0o644))
	return name
}

// A segment of an ELF file that a test makes.
type segment struct {
	kind  elf.ProgType
	vaddr uint64
	data  []byte
}

// A section of an ELF file that a test makes.
type section struct {
	name  string
	kind  elf.SectionType
	flags elf.SectionFlag
	link  uint32
	addr  uint64
	entry uint64
	data  []byte
}

// makeELF lays out: header, program headers, segments, sections, names, section headers.
func makeELF(kind elf.Type, entry uint64, segments []segment, sections []section) []byte {
	var progs []elf.Prog64
	var body bytes.Buffer
	start := uint64(64 + 56*len(segments))
	for _, s := range segments {
		progs = append(progs, elf.Prog64{
			Type: uint32(s.kind), Off: start + uint64(body.Len()), Vaddr: s.vaddr, Paddr: s.vaddr,
			Filesz: uint64(len(s.data)), Memsz: uint64(len(s.data)), Align: 1,
		})
		body.Write(s.data)
	}
	sections = append([]section{{}}, append(sections, section{name: ".shstrtab", kind: elf.SHT_STRTAB})...)
	var names bytes.Buffer
	var heads []elf.Section64
	for _, s := range sections {
		h := elf.Section64{
			Name: uint32(names.Len()), Type: uint32(s.kind), Flags: uint64(s.flags), Addr: s.addr,
			Off: start + uint64(body.Len()), Size: uint64(len(s.data)), Link: s.link, Entsize: s.entry, Addralign: 1,
		}
		names.WriteString(s.name + "\x00")
		if s.name == ".shstrtab" {
			s.data = names.Bytes()
			h.Size = uint64(len(s.data))
		}
		body.Write(s.data)
		heads = append(heads, h)
	}
	head := elf.Header64{
		Ident: [16]byte{0x7f, 'E', 'L', 'F', 2, 1, 1}, Type: uint16(kind), Machine: uint16(elf.EM_X86_64), Version: 1,
		Entry: entry, Phoff: 64, Shoff: start + uint64(body.Len()), Ehsize: 64, Phentsize: 56, Phnum: uint16(len(segments)),
		Shentsize: 64, Shnum: uint16(len(sections)), Shstrndx: uint16(len(sections) - 1),
	}
	if len(segments) == 0 {
		head.Phoff, head.Phentsize = 0, 0
	}
	var out bytes.Buffer
	for _, part := range []any{head, progs, body.Bytes(), heads} {
		_ = binary.Write(&out, binary.LittleEndian, part)
	}
	return out.Bytes()
}

// makeModule makes a kernel module with the given modinfo.
func makeModule(fields ...string) []byte {
	info := strings.Join(fields, "\x00") + "\x00"
	return makeELF(elf.ET_REL, 0, nil, []section{{name: ".modinfo", kind: elf.SHT_PROGBITS, data: []byte(info)}})
}

// A library describes a test's libkrunfw.
type library struct {
	load, entry, size uint32
	memory            []byte
	code              []byte // Instead of the three assignments.
}

func makeMemory(release string, desc int, entry uint64) []byte {
	b := bytes.Repeat([]byte{0x90}, 512)
	b = append(b, "Linux version "+release+" (somebody) #1 SMP\x00"...)
	b = append(b, make([]byte, -len(b)&3)...)
	b = append(b, noteHead(desc)...)
	b = binary.LittleEndian.AppendUint64(b, entry)
	return append(b, make([]byte, 4096-len(b))...)
}

func makeLibrary(l library) []byte {
	if l.code == nil {
		for _, v := range []uint32{l.load, l.entry, l.size} {
			l.code = append(l.code, 0x48, 0x8b, 0x45, 0xf8, 0x48, 0xc7, 0x00)
			l.code = binary.LittleEndian.AppendUint32(l.code, v)
		}
	}
	const codeAt, dataAt = 0x1000, 0x20000
	strs := "\x00" + bundleSymbol + "\x00" + getterSymbol + "\x00"
	syms := []elf.Sym64{
		{},
		{Name: 1, Info: elf.ST_INFO(elf.STB_GLOBAL, elf.STT_OBJECT), Shndx: 1, Value: dataAt, Size: uint64(len(l.memory))},
		{Name: uint32(2 + len(bundleSymbol)), Info: elf.ST_INFO(elf.STB_GLOBAL, elf.STT_FUNC), Shndx: 1, Value: codeAt, Size: uint64(len(l.code))},
	}
	var table bytes.Buffer
	_ = binary.Write(&table, binary.LittleEndian, syms)
	return makeELF(elf.ET_DYN, 0,
		[]segment{{elf.PT_LOAD, codeAt, l.code}, {elf.PT_LOAD, dataAt, l.memory}},
		[]section{
			{name: ".dynsym", kind: elf.SHT_DYNSYM, link: 2, entry: 24, data: table.Bytes()},
			{name: ".dynstr", kind: elf.SHT_STRTAB, data: []byte(strs)},
		})
}

// goodLibrary is a libkrunfw with a kernel of 4096 bytes.
func goodLibrary() library {
	return library{load: 0x1000000, entry: 0x1000123, size: 4096, memory: makeMemory("6.12.1", 8, 0x1000100)}
}

// makeBzImage makes the header of one, and a little more.
func makeBzImage(version string) []byte {
	b := make([]byte, 0x400)
	b[bzSignature], b[bzSignature+1] = 0x55, 0xaa
	copy(b[bzMagic:], "HdrS")
	binary.LittleEndian.PutUint16(b[bzVersion:], 0x100)
	copy(b[0x300:], version)
	return b
}

type archived struct {
	name string
	kind byte
	data []byte
}

func makeTar(entries ...archived) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		kind := e.kind
		if kind == 0 {
			kind = tar.TypeReg
		}
		_ = w.WriteHeader(&tar.Header{Name: e.name, Typeflag: kind, Mode: 0o644, Size: int64(len(e.data)), Linkname: linkTarget(kind)})
		_, _ = w.Write(e.data)
	}
	_ = w.Close()
	return b.Bytes()
}

func linkTarget(kind byte) string {
	if kind == tar.TypeSymlink {
		return "/etc"
	}
	return ""
}

func makeAr(members ...archived) []byte {
	b := []byte(arMagic)
	for _, m := range members {
		b = fmt.Appendf(b, "%-16s%-12d%-6d%-6d%-8o%-10d`\n", m.name, 0, 0, 0, 0o100644, len(m.data))
		b = append(b, m.data...)
		if len(m.data)%2 == 1 {
			b = append(b, '\n')
		}
	}
	return b
}

// makeDeb packs entries; ext is "", ".xz", ".zst" or ".gz".
func makeDeb(tb testing.TB, ext string, entries ...archived) []byte {
	tb.Helper()
	return makeAr(
		archived{name: "debian-binary", data: []byte("2.0\n")},
		archived{name: "control.tar.xz", data: []byte("odd")},
		archived{name: "data.tar" + ext, data: pack(tb, ext, makeTar(entries...))},
	)
}

// pack compresses b in the format of the extension.
func pack(tb testing.TB, ext string, b []byte) []byte {
	tb.Helper()
	var out bytes.Buffer
	var w io.WriteCloser
	var err error
	switch ext {
	case "":
		return b
	case ".gz":
		w = gzip.NewWriter(&out)
	case ".xz":
		w, err = xz.NewWriter(&out)
	case ".zst":
		w, err = zstd.NewWriter(&out)
	}
	must(tb, err)
	_, err = w.Write(b)
	must(tb, err)
	must(tb, w.Close())
	return out.Bytes()
}
