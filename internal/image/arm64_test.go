package image

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/agentd-go/agentd/internal/imagetest"
)

const armRelease = "6.12.1-cloud-arm64"

// makeARM64Image makes the header of an Image, and the texts that are looked for in one.
func makeARM64Image(flags uint64, texts ...string) []byte {
	b := make([]byte, armHeaderEnd)
	copy(b, "MZ")
	binary.LittleEndian.PutUint64(b[armFlags:], flags)
	copy(b[armMagic:], "ARM\x64")
	return slices.Concat(b, []byte("Linux version "+armRelease+" (somebody) #1 SMP\x00"), []byte(strings.Join(texts, "\x00")))
}

func stockARM64Image() []byte {
	return makeARM64Image(0b1010, "uart-pl011", "serial8250", "Trying to unpack rootfs")
}

// makeZboot makes a program for EFI around a compressed kernel.
func makeZboot(packed []byte, extra int) []byte {
	b := make([]byte, 512)
	copy(b, "MZ\x00\x00zimg")
	binary.LittleEndian.PutUint32(b[zbootOffset:], 512)
	binary.LittleEndian.PutUint32(b[zbootSize:], uint32(len(packed)+extra))
	return slices.Concat(b, packed, []byte("the length of the kernel, and more"))
}

func readAll(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	return b
}

// A kernel for arm64 is the same one in all forms in which it is packed.
func TestImportARM64(t *testing.T) {
	for name, b := range map[string][]byte{
		"bare":       stockARM64Image(),
		"gzip":       pack(t, ".gz", stockARM64Image()),
		"xz":         pack(t, ".xz", stockARM64Image()),
		"zstd":       pack(t, ".zst", stockARM64Image()),
		"EFI gzip":   makeZboot(pack(t, ".gz", stockARM64Image()), 0),
		"EFI zstd":   makeZboot(pack(t, ".zst", stockARM64Image()), 0),
		"deb":        makeDeb(t, ".xz", archived{name: "./boot/vmlinuz-" + armRelease, data: stockARM64Image()}),
		"deb, gzip":  makeDeb(t, ".xz", archived{name: "./boot/vmlinuz-" + armRelease, data: pack(t, ".gz", stockARM64Image())}),
		"deb, zboot": makeDeb(t, ".xz", archived{name: "./boot/vmlinuz-" + armRelease, data: makeZboot(pack(t, ".zst", stockARM64Image()), 0)}),
	} {
		t.Run(name, func(t *testing.T) {
			c := openCache(t)
			path := writeFile(t, filepath.Join(t.TempDir(), "k"), b)
			k, err := c.ImportKernel(path)
			must(t, err)
			if k.Architecture != archARM64 || k.Release != armRelease || k.Console != consolePL011 || !k.Initrd || k.PageSize != 4096 {
				t.Errorf("kernel %+v", k)
			}
			if got := readAll(t, k.Path); !bytes.Equal(got, stockARM64Image()) {
				t.Errorf("%d bytes for QEMU", len(got))
			}
			if k, err := c.KernelFor(archARM64, path); err != nil || k.Architecture != archARM64 {
				t.Errorf("by its path: %+v, %v", k, err)
			}
		})
	}
}

func TestPageSizes(t *testing.T) {
	for flags, want := range map[uint64]int{0: 4096, 0b010: 4096, 0b100: 16384, 0b110: 65536} {
		c := openCache(t)
		k, err := c.ImportKernel(writeFile(t, filepath.Join(t.TempDir(), "k"), makeARM64Image(flags)))
		if err != nil || k.PageSize != want {
			t.Errorf("flags %b: pages of %d bytes, %v", flags, k.PageSize, err)
		}
	}
}

func TestImportARM64Refuses(t *testing.T) {
	whole := pack(t, ".gz", stockARM64Image())
	for name, tt := range map[string]struct {
		b    []byte
		want string
	}{
		"big-endian":            {makeARM64Image(1), "big-endian"},
		"no release":            {stockARM64Image()[:armHeaderEnd], "no Linux version"},
		"compressed text":       {pack(t, ".gz", []byte("hello")), "neither"},
		"cut":                   {whole[:len(whole)/2], "compressed kernel"},
		"compressed twice":      {pack(t, ".gz", whole), "neither"},
		"EFI of nothing":        {makeZboot(nil, 0)[:20], "neither"},
		"EFI beyond the end":    {makeZboot(whole, 1<<20)[:600], "compressed kernel"},
		"EFI with another form": {makeZboot([]byte("lz4 or so"), 0), "neither"},
	} {
		t.Run(name, func(t *testing.T) {
			c := openCache(t)
			if k, err := c.ImportKernel(writeFile(t, filepath.Join(t.TempDir(), "k"), tt.b)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %+v, %v, want %q", k, err, tt.want)
			}
			checkNoRest(t, c)
		})
	}
}

// assignARM64 is the code of a getter, as GCC writes it: a number of one or two parts in
// x1, stored where x0 points to, which was on the stack.
func assignARM64(values ...uint32) (code []byte) {
	add := func(words ...uint32) {
		for _, w := range words {
			code = binary.LittleEndian.AppendUint32(code, w)
		}
	}
	add(0xf9000fe0) // str x0, [sp, #24]
	for _, v := range values {
		add(0xf9400fe0, 0xd2a00001|v>>16<<5) // ldr x0, [sp, #24]; movz x1, #v, lsl #16
		if low := v & 0xffff; low != 0 {
			add(0xf2800001 | low<<5) // movk x1, #low
		}
		add(0xf9000001) // str x1, [x0]
	}
	return code
}

func armLibrary(l library) []byte {
	b := makeLibrary(l)
	binary.LittleEndian.PutUint16(b[18:], 183) // e_machine: EM_AARCH64
	return b
}

func TestImportKrunfwARM64(t *testing.T) {
	memory := makeARM64Image(0b010)
	good := library{memory: memory, code: assignARM64(0x80000000, 0x80000000, uint32(len(memory)))}
	c := openCache(t)
	k, err := c.ImportKernel(writeFile(t, filepath.Join(t.TempDir(), "k"), armLibrary(good)))
	must(t, err)
	if k.Name != "krunfw-"+armRelease+"-arm64" || k.Architecture != archARM64 || k.Initrd || k.Console != consoleVirtio {
		t.Errorf("kernel %+v", k)
	}
	if !bytes.Equal(readAll(t, k.Path), memory) {
		t.Error("another kernel than the library's")
	}
	for name, l := range map[string]library{
		"two assignments": {memory: memory, code: assignARM64(0x80000000, 64)},
		"too large":       {memory: memory, code: assignARM64(0x80000000, 0x80000000, uint32(len(memory))+1)},
		"for x86-64":      {memory: memory},
		"no Image":        {memory: makeMemory("6.12.1", 8, 0), code: assignARM64(0x80000000, 0x80000000, 4096)},
	} {
		if k, err := openCache(t).ImportKernel(writeFile(t, filepath.Join(t.TempDir(), "k"), armLibrary(l))); err == nil {
			t.Errorf("%s: imported as %+v", name, k)
		}
	}
}

// Each architecture has kernels of its own: a name finds that of the machine's.
func TestKernelForArchitecture(t *testing.T) {
	c := openCache(t)
	arm, err := c.ImportKernel(writeFile(t, filepath.Join(t.TempDir(), "a"), makeDeb(t, "", append(modulesOf(armRelease), archived{name: "./boot/vmlinuz-" + armRelease, data: stockARM64Image()})...)))
	must(t, err)
	amd, err := c.ImportKernel(writeFile(t, filepath.Join(t.TempDir(), "b"), makeDeb(t, "", append(modulesOf(testRelease), imageOf(testRelease))...)))
	must(t, err)
	for architecture, want := range map[string]Kernel{archARM64: arm, archAMD64: amd} {
		if k, err := c.KernelFor(architecture, ""); err != nil || k.ID != want.ID {
			t.Errorf("%s: %+v, %v", architecture, k, err)
		}
	}
	if k, err := c.KernelFor(archAMD64, arm.Name); err == nil || !strings.Contains(err.Error(), "it is for arm64, and the machine is for amd64") {
		t.Errorf("a kernel for another machine: %+v, %v", k, err)
	}
	if k, err := c.KernelFor(archAMD64, arm.Path); err == nil || !strings.Contains(err.Error(), "it is for arm64") {
		t.Errorf("a file for another machine: %+v, %v", k, err)
	}
}

func TestKernelSince(t *testing.T) {
	for release, want := range map[string]bool{"6.4.0": true, "6.12.1-x": true, "7.0": true, "6.3.9": false, "5.10.0": false, "6": false, "x": false} {
		if got := (Kernel{Release: release}).Since(6, 4); got != want {
			t.Errorf("%s: %v", release, got)
		}
	}
}

// One name has an image for each architecture, and each machine gets its own. An image
// that does not say its architecture gets the one that is asked for.
func TestImagesByArchitecture(t *testing.T) {
	images := []string{"linux/amd64", "linux/arm64/v8"}
	source := writeFile(t, t.TempDir()+"/a.tar", imagetest.Archive(t, imagetest.Several(t, tagged(t, images[0], "a:1"), tagged(t, images[1], "a:1"))))
	c := openCache(t)
	asked := func(p string) ImportOptions {
		w, err := Wanted(p, levels(1))
		must(t, err)
		return ImportOptions{Want: w}
	}
	for _, p := range images {
		_, err := c.ImportImages(t.Context(), source, asked(p))
		must(t, err)
	}
	for _, p := range images {
		o := asked(p)
		o.Local = true
		i, err := c.UseImage(t.Context(), "a:1", o)
		if err != nil || i.Config.Architecture != o.Want.Machine().Architecture {
			t.Errorf("%s: %+v, %v", p, i, err)
		}
	}
	must(t, c.RemoveImage("a:1"))
	must(t, c.RemoveImage("a:1"))
	checkNoImage(t, c)
	root := t.TempDir()
	plain, err := c.ImportImage(t.Context(), root, "plain")
	must(t, err)
	o := asked("linux/arm64")
	o.Name = "arm"
	marked, err := c.ImportImages(t.Context(), root, o)
	must(t, err)
	if plain.Config.Architecture != "" || marked[0].Config.Architecture != "arm64" || plain.ID == marked[0].ID {
		t.Errorf("without: %+v\nasked for: %+v", plain, marked[0])
	}
	o = asked("linux/amd64")
	o.Local = true
	if i, err := c.UseImage(t.Context(), "arm", o); err == nil || !strings.Contains(err.Error(), "the cache has it for linux/arm64, not for linux/amd64") {
		t.Errorf("an image for another machine: %+v, %v", i, err)
	}
}
