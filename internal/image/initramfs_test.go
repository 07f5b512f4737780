package image

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

// listCpio prints an archive of the form newc, a line for each entry, and
// checks its alignment and that it ends where it should.
func listCpio(t *testing.T, b []byte) string {
	t.Helper()
	var out strings.Builder
	whole := len(b)
	for {
		field := func(i int) int {
			v, err := strconv.ParseUint(string(b[6+8*i:14+8*i]), 16, 32)
			must(t, err)
			return int(v)
		}
		if string(b[:6]) != "070701" || (whole-len(b))%4 != 0 {
			t.Fatalf("at %d: no header: %q", whole-len(b), b[:6])
		}
		size, nameSize := field(6), field(11)
		name := string(b[110 : 110+nameSize-1])
		data := b[(110+nameSize+3)&^3:]
		fmt.Fprintf(&out, "%3d %06o uid %d gid %d links %d time %d dev %d:%d size %d %s\n",
			field(0), field(1), field(2), field(3), field(4), field(5), field(9), field(10), size, name)
		b = data[(size+3)&^3:]
		if name == "TRAILER!!!" {
			break
		}
	}
	if whole%512 != 0 || len(bytes.Trim(b, "\x00")) != 0 {
		t.Errorf("%d bytes, which end with %q", whole, b)
	}
	return out.String()
}

func TestWriteInitramfs(t *testing.T) {
	modules := []Module{{"virtio_ring", []byte("12345")}, {"virtio", nil}, {"fuse", bytes.Repeat([]byte{7}, 1000)}}
	var a, b bytes.Buffer
	must(t, WriteInitramfs(&a, []byte("an agent"), modules))
	must(t, WriteInitramfs(&b, []byte("an agent"), modules))
	if !bytes.Equal(a.Bytes(), b.Bytes()) {
		t.Error("the same inputs gave other bytes")
	}
	golden(t, "initramfs.txt", listCpio(t, a.Bytes()))
}

func TestWriteInitramfsRefuses(t *testing.T) {
	agent := []byte("x")
	for name, err := range map[string]error{
		"no agent":         WriteInitramfs(&bytes.Buffer{}, nil, nil),
		"a path":           WriteInitramfs(&bytes.Buffer{}, agent, []Module{{Name: "../x"}}),
		"no name":          WriteInitramfs(&bytes.Buffer{}, agent, []Module{{}}),
		"a long name":      WriteInitramfs(&bytes.Buffer{}, agent, []Module{{Name: strings.Repeat("x", 56)}}),
		"too many modules": WriteInitramfs(&bytes.Buffer{}, agent, make([]Module, maxInitramfsModules+1)),
		"a failing writer": WriteInitramfs(fullWriter{}, agent, nil),
	} {
		if err == nil {
			t.Errorf("%s: written", name)
		}
	}
}

type fullWriter struct{}

func (fullWriter) Write([]byte) (int, error) { return 0, errors.New("full") }

func TestCacheInitramfs(t *testing.T) {
	c := openCache(t)
	k := Kernel{Name: "k", Initrd: true, Modules: makeTree(t, map[string][]byte{
		"a.ko": makeModule("depends=b"), "b.ko": makeModule(),
	})}
	agent := []byte("an agent")
	first, err := c.Initramfs(agent, k, "a")
	must(t, err)
	b, err := os.ReadFile(first)
	must(t, err)
	list := listCpio(t, b)
	for _, want := range []string{"000-b.ko\n", "001-a.ko\n"} {
		if !strings.Contains(list, want) {
			t.Errorf("no %q in\n%s", want, list)
		}
	}
	again, err := c.Initramfs(agent, k, "b", "a")
	must(t, err)
	other, err := c.Initramfs([]byte("another"), k, "a")
	must(t, err)
	fewer, err := c.Initramfs(agent, k, "b")
	must(t, err)
	if again != first || other == first || fewer == first || other == fewer {
		t.Errorf("paths %s, %s, %s, %s", first, again, other, fewer)
	}
}

// A kernel of the cache never changes, so its modules are read only for a new initramfs.
func TestCacheInitramfsKnown(t *testing.T) {
	c := openCache(t)
	k := Kernel{Name: "k", ID: "0123", Initrd: true, Modules: makeTree(t, map[string][]byte{"a.ko": makeModule()})}
	first, err := c.Initramfs([]byte("an agent"), k, "a")
	must(t, err)
	must(t, os.RemoveAll(k.Modules.Dir()))
	k.Modules = &ModuleTree{index: func() (*moduleIndex, error) { return nil, errors.New("was read") }}
	again, err := c.Initramfs([]byte("an agent"), k, "a")
	if err != nil || again != first {
		t.Errorf("%s, %v; want %s", again, err, first)
	}
	for name, try := range map[string]func() (string, error){
		"kernel": func() (string, error) { o := k; o.ID = "4567"; return c.Initramfs([]byte("an agent"), o, "a") },
		"agent":  func() (string, error) { return c.Initramfs([]byte("another"), k, "a") },
		"module": func() (string, error) { return c.Initramfs([]byte("an agent"), k, "a", "b") },
	} {
		if p, err := try(); err == nil {
			t.Errorf("another %s: %s", name, p)
		}
	}
	checkNoRest(t, c)
}

func TestCacheInitramfsRefuses(t *testing.T) {
	c := openCache(t)
	for name, k := range map[string]Kernel{"takes none": {Name: "k"}, "has no modules": {Name: "k", Initrd: true}} {
		if p, err := c.Initramfs([]byte("x"), k, "a"); err == nil {
			t.Errorf("%s: %s", name, p)
		}
	}
	if _, err := c.Initramfs([]byte("x"), Kernel{Initrd: true}); err != nil {
		t.Errorf("without modules: %v", err)
	}
	checkNoRest(t, c)
}
