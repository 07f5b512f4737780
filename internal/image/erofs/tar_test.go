package erofs

import (
	"archive/tar"
	"bytes"
	"strings"
	"testing"
	"time"
)

func addLayers(layers ...[]byte) ([]byte, error) {
	var m memory
	w := NewWriter(&m, Options{Limits: Limits{Entries: 10_000, Bytes: 1 << 20, XattrBytes: 1 << 20}})
	for _, l := range layers {
		if err := w.AddLayer(bytes.NewReader(l)); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return m.b, err
}

func header(name string, kind byte) *tar.Header {
	h := &tar.Header{Name: name, Typeflag: kind, Mode: 0o640, Uid: 3, Gid: 4, ModTime: time.Unix(1_700_000_000, 0)}
	switch kind {
	case tar.TypeReg:
		h.Size = 3
	case tar.TypeSymlink, tar.TypeLink:
		h.Linkname = "a"
	case tar.TypeChar, tar.TypeBlock:
		h.Devmajor, h.Devminor = 1, 5
	}
	return h
}

func TestTar(t *testing.T) {
	owned := header("d/owned", tar.TypeReg)
	owned.Uid, owned.Gid, owned.Mode, owned.ModTime = 1<<24, 0, 0o6711, time.Unix(5, 123_456_789)
	owned.Format, owned.PAXRecords = tar.FormatPAX, map[string]string{"SCHILY.xattr.user.x": "\x01y"}
	first := packed(t, header("./", tar.TypeDir), header("a", tar.TypeReg), header("gone", tar.TypeReg), header("o/gone", tar.TypeReg),
		header("b", tar.TypeLink), header("l", tar.TypeSymlink), header("null", tar.TypeChar), header("sd", tar.TypeBlock), header("p", tar.TypeFifo), owned)
	second := packed(t, header(".wh.gone", tar.TypeReg), header("o/.wh..wh..opq", tar.TypeReg), header("o/new", tar.TypeReg), header(".wh..wh.plnk", tar.TypeDir))
	b, err := addLayers(first, second)
	if err != nil {
		t.Fatal(err)
	}
	all, err := read(b)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"":        `040640 3:4 1700000000.0 links=4`,
		"a":       `100640 3:4 1700000000.0 links=2 3 "xxx"`,
		"b":       `100640 3:4 1700000000.0 links=2 3 "xxx"`,
		"l":       `120640 3:4 1700000000.0 links=1 1 "a"`,
		"null":    `020640 3:4 1700000000.0 links=1 dev=0x105`,
		"sd":      `060640 3:4 1700000000.0 links=1 dev=0x105`,
		"p":       `010640 3:4 1700000000.0 links=1`,
		"d":       `040755 0:0 0.0 links=2`,
		"d/owned": `106711 16777216:0 5.123456789 links=1 3 "xxx" user.x="\x01y"`,
		"o":       `040755 0:0 0.0 links=2`,
		"o/new":   `100640 3:4 1700000000.0 links=1 3 "xxx"`,
	}
	for name, f := range all {
		if got := f.String(); got != want[name] {
			t.Errorf("%q: got  %s\nwant %s", name, got, want[name])
		}
		delete(want, name)
	}
	for name := range want {
		t.Errorf("%q is missing", name)
	}
}

func TestTarRefused(t *testing.T) {
	for _, tt := range []struct {
		want string
		tar  []byte
	}{
		{`entry "../a": not a path beneath the root`, packed(t, header("../a", tar.TypeReg))},
		{`entry "b": hard link to "a": no such file`, packed(t, header("b", tar.TypeLink))},
		{`entry ".wh.": a whiteout of no name`, packed(t, header(".wh.", tar.TypeReg))},
		{`entry "a/.wh..": a whiteout of no name`, packed(t, header("a/.wh..", tar.TypeReg))},
		{`entry "a/.wh...": a whiteout of no name`, packed(t, header("a/.wh...", tar.TypeReg))},
		{`entry "a/../.wh.": a whiteout of no name`, packed(t, header("a/../.wh.", tar.TypeReg))},
		{`entry "/../a": not a path`, packed(t, header("/../a", tar.TypeReg))},
		{`not a path`, packed(t, header("x/../../.wh..wh..opq", tar.TypeReg))},
		{`read the archive: `, []byte(strings.Repeat("not an archive", 100))},
		{`its content: unexpected EOF`, packed(t, header("a", tar.TypeReg))[:514]},
	} {
		if _, err := addLayers(tt.tar); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("got %v, want %q", err, tt.want)
		}
	}
}

// What other tools write is taken as they take it.
func TestTarOfOthers(t *testing.T) {
	attributes := header("/abs", tar.TypeReg)
	attributes.PAXRecords = map[string]string{
		"SCHILY.xattr.trusted.overlay.opaque": "y", "SCHILY.xattr.com.apple.x": "1", "SCHILY.xattr.system.nfs4_acl": "1", "SCHILY.xattr.user.x": "1",
		"SCHILY.acl.access": "user::rw-,user:joe:r--:7,group::r--,mask::r--,other::---", "SCHILY.acl.default": "user:joe:rwx",
	}
	link := header("h", tar.TypeLink)
	link.Linkname = "/abs"
	var m memory
	w := NewWriter(&m, Options{})
	if err := w.AddLayer(bytes.NewReader(packed(t, header("/", tar.TypeDir), attributes, header("x/../y", tar.TypeReg), link, header("c", tar.TypeCont)))); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	all, err := read(m.b)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "abs", "y", "h", "c"} {
		if _, ok := all[name]; !ok {
			t.Errorf("%q is missing", name)
		}
	}
	if s := all["abs"].String(); len(all) != 5 || !strings.Contains(s, "user.x") || !strings.Contains(s, "posix_acl_access") || strings.Contains(s, "overlay") {
		t.Errorf("%d entries; abs is %s", len(all), s)
	}
	if left := w.Left(); len(left) != 4 || left["trusted.overlay.opaque"] != 1 || left["system.posix_acl_default"] != 1 {
		t.Errorf("left out: %v", left)
	}
}

// Memory is bounded by bytes, whatever they are the names of.
func TestKeptBytes(t *testing.T) {
	long := strings.Repeat("t", maxTarget)
	for _, kind := range []byte{tar.TypeSymlink, tar.TypeDir, tar.TypeReg} {
		w := NewWriter(&memory{}, Options{Limits: Limits{KeptBytes: 100_000}})
		var err error
		for n := 0; err == nil && n < 1000; n++ {
			h := header(strings.Repeat("n", 200)+string(rune('a'+n)), kind)
			h.Linkname, h.Size = long, 0
			err = w.addHeader(h, nil)
		}
		if err == nil || !strings.Contains(err.Error(), "bytes of memory") {
			t.Errorf("type %q: %v", kind, err)
		}
	}
}

// Whatever an archive holds, it is refused or becomes a sound image, the same one
// each time.
func FuzzLayers(f *testing.F) {
	f.Add(packed(f, header("a", tar.TypeReg), header("b", tar.TypeLink), header("d/l", tar.TypeSymlink)), packed(f, header(".wh.a", tar.TypeReg), header("d/.wh..wh..opq", tar.TypeReg)))
	f.Add(packed(f, header("a", tar.TypeSymlink), header("a/x", tar.TypeReg)), packed(f, header("a", tar.TypeDir), header("c", tar.TypeChar)))
	f.Fuzz(func(t *testing.T, first, second []byte) {
		b, err := addLayers(first, second)
		if err != nil {
			return
		}
		if _, err := read(b); err != nil {
			t.Fatal(err)
		}
		if again, err := addLayers(first, second); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("a second time it is another image (%v)", err)
		}
	})
}
