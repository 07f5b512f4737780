package image

import (
	"bytes"
	"debug/elf"
	"io"
	"path/filepath"
	"strings"
	"testing"
)

func FuzzKrunfw(f *testing.F) {
	f.Add(makeLibrary(goodLibrary()))
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := elf.NewFile(bytes.NewReader(b))
		if err != nil {
			return
		}
		k, err := openBundle(file)
		if err != nil {
			return
		}
		if len(k.memory) > len(b) {
			t.Fatalf("%d bytes of kernel from %d", len(k.memory), len(b))
		}
		var out bytes.Buffer
		if k.writeELF(&out) == nil && !strings.Contains(out.String()[wrapOffset:], "Xen") {
			t.Error("wrapped without a note")
		}
	})
}

func FuzzDeb(f *testing.F) {
	for _, ext := range []string{"", ".gz", ".xz", ".zst"} {
		f.Add(makeDeb(f, ext, archived{name: "./boot/vmlinuz-1", data: []byte("x")}))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		_ = walkDeb(bytes.NewReader(b), func(name string, r io.Reader) error {
			if !filepath.IsLocal(name) {
				t.Errorf("name %q", name)
			}
			_, err := io.Copy(io.Discard, io.LimitReader(r, 1<<20))
			return err
		})
	})
}

func FuzzModinfo(f *testing.F) {
	f.Add(makeModule("depends=a,b", "softdep=pre: c post: d"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseModinfo(b)
		if err != nil {
			return
		}
		for _, s := range append(append(m.depends, m.before...), m.after...) {
			if s == "" || strings.Contains(s, "\x00") {
				t.Errorf("name %q", s)
			}
		}
	})
}

func FuzzIdentify(f *testing.F) {
	f.Add(makeBzImage("6.1.0 x"))
	f.Add(makeLibrary(goodLibrary()))
	f.Fuzz(func(t *testing.T, b []byte) {
		kind, err := identify(bytes.NewReader(b))
		if err != nil || kind != formBzImage {
			return
		}
		if rel, err := bzImageRelease(bytes.NewReader(b)); err == nil && !filepath.IsLocal(rel) {
			t.Errorf("release %q", rel)
		}
	})
}
