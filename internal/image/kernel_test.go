package image

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const testRelease = "6.1.0-9-cloud-amd64"

func modulesOf(release string) []archived {
	return []archived{
		{name: "./lib/modules/" + release + "/modules.builtin", data: []byte("kernel/fs/binfmt_script.ko\n")},
		{name: "./lib/modules/" + release + "/kernel/fs/a.ko", data: makeModule("depends=b")},
		{name: "./lib/modules/" + release + "/kernel/fs/b.ko", data: makeModule("depends=")},
	}
}

func imageOf(release string) archived {
	return archived{name: "./boot/vmlinuz-" + release, data: makeBzImage(release + " (x) #1")}
}

func TestImportKrunfw(t *testing.T) {
	for _, desc := range []int{8, 4} {
		l := goodLibrary()
		l.memory = makeMemory("6.12.1", desc, 0x1000100)
		c := openCache(t)
		k, err := c.ImportKernel(writeFile(t, filepath.Join(t.TempDir(), "kernel"), makeLibrary(l)))
		must(t, err)
		if k.Name != "krunfw-6.12.1" || k.Release != "6.12.1" || k.Console != "hvc0" || k.Initrd || k.Modules != nil {
			t.Errorf("kernel %+v", k)
		}
		checkWrapped(t, k.Path, l, desc)
	}
}

// checkWrapped looks at the file as QEMU does: program headers only.
func checkWrapped(t *testing.T, path string, l library, desc int) {
	t.Helper()
	f, err := elf.Open(path)
	must(t, err)
	defer func() { _ = f.Close() }()
	if f.Type != elf.ET_EXEC || f.Entry != 0x1000100 || len(f.Progs) != 2 {
		t.Fatalf("header %+v with %d segments", f.FileHeader, len(f.Progs))
	}
	load, note := f.Progs[0], f.Progs[1]
	memory, err := io.ReadAll(load.Open())
	must(t, err)
	if load.Type != elf.PT_LOAD || load.Paddr != 0x1000000 || load.Memsz != 4096+wrapBSS || !bytes.Equal(memory, l.memory) {
		t.Errorf("PT_LOAD %+v", load.ProgHeader)
	}
	b, err := io.ReadAll(note.Open())
	must(t, err)
	if want := 16 + desc; note.Type != elf.PT_NOTE || len(b) != want || !bytes.HasPrefix(b, noteHead(desc)) {
		t.Errorf("PT_NOTE %+v: % x", note.ProgHeader, b)
	}
}

func TestImportKrunfwRefuses(t *testing.T) {
	for name, edit := range map[string]func(*library){
		"size above the object":   func(l *library) { l.size = 8192 },
		"entry before the load":   func(l *library) { l.entry = 1 },
		"entry after the end":     func(l *library) { l.entry = l.load + 4096 },
		"a negative number":       func(l *library) { l.load = 0x80000000 },
		"no code that we know":    func(l *library) { l.code = []byte{0xc3} },
		"two assignments":         func(l *library) { l.code = bytes.Repeat([]byte{0x48, 0xc7, 0, 0, 0, 0, 1}, 2) },
		"an assignment cut short": func(l *library) { l.code = append(bytes.Repeat([]byte{0x48, 0xc7, 0, 0, 0, 0, 1}, 2), 0x48, 0xc7, 0) },
		"no PVH note":             func(l *library) { l.memory = bytes.Replace(l.memory, noteHead(8), make([]byte, 16), 1) },
		"note with another entry": func(l *library) { l.memory = makeMemory("6.12.1", 8, 0x10) },
		"no release":              func(l *library) { l.memory = makeMemory("../../x", 8, 0x1000100) },
	} {
		t.Run(name, func(t *testing.T) {
			l := goodLibrary()
			edit(&l)
			c := openCache(t)
			if k, err := c.ImportKernel(writeFile(t, filepath.Join(t.TempDir(), "k"), makeLibrary(l))); err == nil {
				t.Errorf("imported as %+v", k)
			}
			checkNoRest(t, c)
		})
	}
}

// A failed import leaves nothing, neither finished nor half done.
func checkNoRest(t *testing.T, c *Cache) {
	t.Helper()
	for _, pattern := range []string{"tmp/*", "kernels/*"} {
		if left, _ := filepath.Glob(filepath.Join(c.dir, pattern)); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
}

func TestImportTruncatedELF(t *testing.T) {
	whole := makeLibrary(goodLibrary())
	dir := t.TempDir()
	c := openCache(t)
	for n := 0; n < len(whole); n += 1 + n/8 {
		if _, err := c.ImportKernel(writeFile(t, filepath.Join(dir, "k"), whole[:n])); err == nil {
			t.Errorf("imported %d of %d bytes", n, len(whole))
		}
	}
}

func TestImportDeb(t *testing.T) {
	for _, ext := range []string{"", ".gz", ".xz", ".zst"} {
		for _, prefix := range []string{"./lib", "./usr/lib"} {
			entries := []archived{{name: "./", kind: tar.TypeDir}, imageOf(testRelease), {name: "./etc/other", data: []byte("x")}}
			for _, m := range modulesOf(testRelease) {
				m.name = prefix + strings.TrimPrefix(m.name, "./lib")
				entries = append(entries, m)
			}
			c := openCache(t)
			k, err := c.ImportKernel(writeFile(t, filepath.Join(t.TempDir(), "x"), makeDeb(t, ext, entries...)))
			must(t, err)
			if k.Name != testRelease || k.Console != "ttyS0" || !k.Initrd || k.Modules == nil {
				t.Fatalf("%s: kernel %+v", ext, k)
			}
			if got := resolveNames(t, k.Modules, "a"); !slices.Equal(got, []string{"b", "a"}) {
				t.Errorf("%s: modules %v", ext, got)
			}
			if exists(filepath.Join(filepath.Dir(k.Path), "etc")) {
				t.Error("took a file that no machine needs")
			}
		}
	}
}

func TestImportSeveral(t *testing.T) {
	dir := t.TempDir()
	image := writeFile(t, filepath.Join(dir, "image"), makeDeb(t, ".xz", imageOf(testRelease)))
	modules := writeFile(t, filepath.Join(dir, "modules"), makeDeb(t, ".zst", modulesOf(testRelease)...))
	others := writeFile(t, filepath.Join(dir, "others"), makeDeb(t, "", modulesOf("6.2.0")...))
	c := openCache(t)
	a, err := c.ImportKernel(image, modules)
	must(t, err)
	b, err := c.ImportKernel(modules, image)
	must(t, err)
	if a.ID != b.ID || a.Modules == nil {
		t.Errorf("the order of the files matters: %+v, %+v", a, b)
	}
	for _, paths := range [][]string{nil, {image, others}, {image, image}, {modules}, {filepath.Join(dir, "none")}} {
		if k, err := c.ImportKernel(paths...); err == nil {
			t.Errorf("import of %v: %+v", paths, k)
		}
	}
}

func TestImportRefuses(t *testing.T) {
	for name, b := range map[string][]byte{
		"empty":             {},
		"text":              []byte("hello"),
		"leaves by dots":    makeDeb(t, ".gz", imageOf(testRelease), archived{name: "./lib/modules/../../../../x.ko"}),
		"leaves by a slash": makeDeb(t, "", imageOf(testRelease), archived{name: "/lib/modules/6.1/kernel/x.ko"}),
		"odd release":       makeDeb(t, "", imageOf(testRelease), archived{name: "./lib/modules/..x/kernel/x.ko"}),
		"the same twice":    makeDeb(t, "", imageOf(testRelease), modulesOf(testRelease)[1], modulesOf(testRelease)[1]),
		"two images":        makeDeb(t, "", imageOf(testRelease), imageOf("6.2.0")),
		"no image":          makeDeb(t, "", archived{name: "./usr/share/doc/x", data: []byte("x")}),
		"image is no image": makeDeb(t, "", archived{name: "./boot/vmlinuz-6.1", data: []byte("x")}),
		"link for an image": makeDeb(t, "", archived{name: "./boot/vmlinuz-6.1", kind: tar.TypeSymlink}),
		"no data":           makeAr(archived{name: "debian-binary", data: []byte("2.0\n")}),
		"members no end":    makeAr(slices.Repeat([]archived{{name: "x"}}, arMembers+1)...),
		"negative size":     []byte(arMagic + "data.tar        0           0     0     100644  -5        `\n"),
		"size beyond":       []byte(arMagic + "x               0           0     0     100644  9999999999`\n"),
		"no end mark":       []byte(arMagic + strings.Repeat(" ", arHeader)),
		"ELF without PVH":   makeELF(elf.ET_EXEC, 1, []segment{{elf.PT_LOAD, 0x1000000, makeMemory("6.1.0", 8, 0x1000000)}}, nil),
		"release of 100":    makeBzImage(strings.Repeat("1", 100)),
		"release outside":   append(makeBzImage("")[:bzVersion], 0xff, 0xff),
	} {
		t.Run(name, func(t *testing.T) {
			c := openCache(t)
			k, err := c.ImportKernel(writeFile(t, filepath.Join(t.TempDir(), "k"), b))
			if err == nil {
				t.Errorf("imported as %+v", k)
			}
			checkNoRest(t, c)
		})
	}
}

func TestImportELF(t *testing.T) {
	memory := append(makeMemory("6.1.7", 8, 0x1000000), "serial8250\x00Trying to unpack rootfs image\x00"...)
	b := makeELF(elf.ET_EXEC, 1, []segment{
		{elf.PT_LOAD, 0x1000000, memory},
		{elf.PT_NOTE, 0x1000000, append(noteHead(8), make([]byte, 8)...)},
	}, nil)
	c := openCache(t)
	k, err := c.ImportKernel(writeFile(t, filepath.Join(t.TempDir(), "k"), b))
	must(t, err)
	if k.Name != "6.1.7" || k.Console != "ttyS0" || !k.Initrd || filepath.Base(k.Path) != "vmlinux" {
		t.Errorf("kernel %+v", k)
	}
}

func TestKernelByName(t *testing.T) {
	c := openCache(t)
	dir := t.TempDir()
	krunfw, err := c.ImportKernel(writeFile(t, filepath.Join(dir, "a"), makeLibrary(goodLibrary())))
	must(t, err)
	deb := writeFile(t, filepath.Join(dir, "b.deb"), makeDeb(t, "", append(modulesOf(testRelease), imageOf(testRelease))...))
	for _, name := range []string{krunfw.Name, krunfw.ID, krunfw.ID[:minID], filepath.Join(dir, "a")} {
		if k, err := c.Kernel(name); err != nil || k.ID != krunfw.ID {
			t.Errorf("kernel %q: %+v, %v", name, k, err)
		}
	}
	if k, err := c.Kernel(deb); err != nil || k.ID == "" || k.Modules == nil {
		t.Errorf("kernel %s is not imported: %+v, %v", deb, k, err)
	}
	_, err = c.Kernel("other")
	if !errors.Is(err, ErrNoKernel) || !strings.Contains(err.Error(), krunfw.Name) {
		t.Errorf("kernel other: %v", err)
	}
}

// A name of two kernels that boot differently means neither.
func TestKernelsOfOneName(t *testing.T) {
	c := openCache(t)
	dir := t.TempDir()
	bare, err := c.ImportKernel(writeFile(t, filepath.Join(dir, "bare"), makeBzImage(testRelease+" (x) #2")))
	must(t, err)
	whole, err := c.ImportKernel(writeFile(t, filepath.Join(dir, "b.deb"), makeDeb(t, "", append(modulesOf(testRelease), imageOf(testRelease))...)))
	must(t, err)
	if bare.Name != whole.Name {
		t.Fatalf("names %s, %s", bare.Name, whole.Name)
	}
	_, err = c.Kernel(bare.Name)
	if err == nil || !strings.Contains(err.Error(), bare.ID[:12]) || !strings.Contains(err.Error(), whole.ID[:12]) {
		t.Errorf("the name of both: %v", err)
	}
	for _, k := range []Kernel{bare, whole} {
		if got, err := c.Kernel(k.ID[:minID]); err != nil || got.ID != k.ID {
			t.Errorf("%s: %+v, %v", k.ID, got, err)
		}
	}
}

func TestKernelByPath(t *testing.T) {
	c := openCache(t)
	dir := t.TempDir()
	p := writeFile(t, filepath.Join(dir, "boot", "vmlinuz"), makeBzImage(testRelease+" (x)"))
	k, err := c.Kernel(p)
	must(t, err)
	if k.Path != p || k.Release != testRelease || k.Modules != nil || k.ID != "" {
		t.Errorf("kernel %+v", k)
	}
	for _, root := range []string{c.host, dir, filepath.Join(dir, "boot")} {
		tree := filepath.Join(root, "lib", "modules", testRelease)
		must(t, os.MkdirAll(filepath.Join(tree, "kernel"), 0o755))
		k, err := c.Kernel(p)
		must(t, err)
		if k.Modules == nil || k.Modules.Dir() != tree {
			t.Errorf("modules %+v and not those of %s", k.Modules, tree)
		}
	}
}

func TestDefaultKernel(t *testing.T) {
	c := openCache(t)
	dir := t.TempDir()
	want := func(name string) {
		t.Helper()
		if k, err := c.Kernel(""); err != nil || k.Name != name {
			t.Errorf("default kernel %q and not %q: %v", k.Name, name, err)
		}
	}
	_, err := c.ImportKernel(writeFile(t, filepath.Join(dir, "a"), makeLibrary(goodLibrary())))
	must(t, err)
	if _, err := c.Kernel(""); !errors.Is(err, ErrNoKernel) || !strings.Contains(err.Error(), "agentctl kernel import FILE") {
		t.Errorf("no default kernel: %v", err)
	}
	writeFile(t, filepath.Join(c.host, "boot", "vmlinuz-5.0"), []byte("odd"))
	writeFile(t, filepath.Join(c.host, "boot", "vmlinuz-4.0"), makeBzImage("4.0 x"))
	must(t, os.MkdirAll(filepath.Join(c.host, "lib/modules/4.0/kernel"), 0o755))
	want("4.0")
	deb := func(release string) {
		entries := append(modulesOf(release), imageOf(release))
		_, err := c.ImportKernel(writeFile(t, filepath.Join(dir, release), makeDeb(t, "", entries...)))
		must(t, err)
	}
	deb("6.9.0-generic")
	want("6.9.0-generic")
	deb("6.1.0-1-cloud-amd64")
	deb("6.1.0-2-cloud-amd64")
	want("6.1.0-2-cloud-amd64")
	deb("6.1.0-1-cloud-amd64")
	deb("6.9.0-generic")
	want("6.1.0-1-cloud-amd64")
	_, err = c.Kernel(filepath.Join(dir, "6.1.0-2-cloud-amd64"))
	must(t, err)
	want("6.1.0-1-cloud-amd64") // To use a file does not make it the default.
}

// No content of kernel.json leads out of its directory.
func TestDamagedRecord(t *testing.T) {
	c := openCache(t)
	dir := filepath.Join(c.dir, kernelKind, "x")
	writeFile(t, filepath.Join(dir, kernelRecord), []byte(`{"name":"x","file":"../../../../etc/passwd"}`))
	if k, err := c.Kernel("x"); err != nil || filepath.Dir(k.Path) != dir {
		t.Errorf("kernel %+v, %v", k, err)
	}
	writeFile(t, filepath.Join(dir, kernelRecord), []byte(`{`))
	if _, err := c.Kernels(); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("damaged record: %v", err)
	}
}

func TestTarLimits(t *testing.T) {
	endless := tar.NewReader(&repeat{unit: makeTar(archived{name: "x"})[:512]})
	err := walkTar(endless, func(string, io.Reader) error { return nil })
	if !errors.Is(err, ErrTooLarge) {
		t.Errorf("an endless archive: %v", err)
	}
	root, err := os.OpenRoot(t.TempDir())
	must(t, err)
	defer func() { _ = root.Close() }()
	im := importer{root: root, releases: map[string]bool{}}
	if err := im.visit("lib/modules/6.1/kernel/x.ko", &repeat{unit: make([]byte, 1<<20)}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("an endless module: %v", err)
	}
	for limit, want := range map[int64]error{9: ErrTooLarge, 10: nil, 11: nil} {
		if _, err := readBounded(bytes.NewReader(make([]byte, 10)), limit); !errors.Is(err, want) {
			t.Errorf("10 bytes, limit %d: %v", limit, err)
		}
	}
}

// repeat reads as its unit without end.
type repeat struct {
	unit []byte
	at   int
}

func (r *repeat) Read(p []byte) (int, error) {
	n := copy(p, r.unit[r.at:])
	r.at = (r.at + n) % len(r.unit)
	return n, nil
}

// TestRealKernels imports published kernels, if AGENTD_KERNELS names files.
func TestRealKernels(t *testing.T) {
	list := os.Getenv("AGENTD_KERNELS")
	if list == "" {
		t.Skip("AGENTD_KERNELS is not set: it lists kernel files to import, separated by colons")
	}
	for _, p := range filepath.SplitList(list) {
		start := time.Now()
		k, err := openCache(t).ImportKernel(p)
		must(t, err)
		t.Logf("%s: %s, console %s, initrd %t, modules %t, in %v", p, k.Name, k.Console, k.Initrd, k.Modules != nil, time.Since(start))
		if kind, err := identifyFile(k.Path); err != nil || kind == formUnknown {
			t.Errorf("%s: the imported file is none: %v", p, err)
		}
	}
}

func identifyFile(p string) (form, error) {
	f, err := os.Open(p)
	if err != nil {
		return formUnknown, err
	}
	defer func() { _ = f.Close() }()
	return identify(f)
}
