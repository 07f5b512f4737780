package sys_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/agentd-go/agentd/internal/guest/sys"
)

func TestParent(t *testing.T) {
	for path, want := range map[string]string{
		"/a/b": "/a/", "/a/b/": "/a/", "/a//b": "/a/", "/a": "/", "/": "/", "": "/", "a": ".", "a/b": "a/", "a/": ".", "/a/..": "/a/",
	} {
		if got := sys.Parent(path); got != want {
			t.Errorf("Parent(%q) = %q, want %q", path, got, want)
		}
	}
}

func TestMakeDirs(t *testing.T) {
	at := t.TempDir()
	if err := os.WriteFile(filepath.Join(at, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		want error
	}{
		{"a/b/c", nil},
		{"a/b/c/", nil},
		{"a//d/../e", nil}, // d is made on the way, as the kernel must walk it.
		{"", nil},
		{"file", syscall.EEXIST},
		{"file/x", syscall.ENOTDIR},
	} {
		if err := sys.MakeDirs(at + "/" + tt.name); !errors.Is(err, tt.want) {
			t.Errorf("%q: %v, want %v", tt.name, err, tt.want)
		}
	}
	if s, err := sys.Stat(at+"/a/e", false); err != nil || s.Type() != sys.ModeDir {
		t.Errorf("a/e: %+v, %v", s, err)
	}
	if err := sys.MakeDirs(""); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("no name: %v", err)
	}
}

// How each kind of access opens, told by what can be done afterwards.
func TestOpenFile(t *testing.T) {
	at := t.TempDir()
	name := func(n string) string { return filepath.Join(at, n) }
	if err := os.WriteFile(name("old"), []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		what   string
		file   string
		access sys.Access
		err    error
		after  string // What the file has when "new" was written.
	}{
		{"not there", "no", sys.Access{Write: true}, syscall.ENOENT, ""},
		{"there already", "old", sys.Access{Write: true, Exclusive: true}, syscall.EEXIST, ""},
		{"no directory", "old", sys.Access{Read: true, Directory: true}, syscall.ENOTDIR, ""},
		{"write", "old", sys.Access{Write: true}, nil, "new"},
		{"append", "old", sys.Access{Append: true}, nil, "newnew"},
		{"truncate", "old", sys.Access{Read: true, Write: true, Truncate: true}, nil, "new"},
		{"create", "made", sys.Access{Write: true, Create: true, Mode: 0o600}, nil, "new"},
		{"create anew", "made2", sys.Access{Append: true, Exclusive: true, Truncate: true, Mode: 0o600}, nil, "new"},
	} {
		f, err := sys.OpenFile(name(tt.file), tt.access)
		if !errors.Is(err, tt.err) {
			t.Errorf("%s: %v, want %v", tt.what, err, tt.err)
		}
		if err != nil {
			continue
		}
		_, err = f.WriteString("new")
		if err := errors.Join(err, f.Close()); err != nil {
			t.Errorf("%s: %v", tt.what, err)
		}
		if b, err := os.ReadFile(name(tt.file)); err != nil || string(b) != tt.after {
			t.Errorf("%s: the file has %q (%v), want %q", tt.what, b, err, tt.after)
		}
	}
}
