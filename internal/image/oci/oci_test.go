package oci

import (
	"os"
	"strings"
	"testing"

	"github.com/agentd-go/agentd/internal/imagetest"
)

// A layout's links lead nowhere else, and what is no file is not opened.
func TestLayoutStaysInside(t *testing.T) {
	outside := t.TempDir() + "/manifest"
	if err := os.WriteFile(outside, []byte(`[{"Config":"c"}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	for what, prepare := range map[string]func(dir string) error{
		"escapes":            func(dir string) error { return os.Symlink(outside, dir+"/manifest.json") },
		"not a regular file": func(dir string) error { return os.Mkdir(dir+"/manifest.json", 0o700) },
	} {
		dir := t.TempDir()
		if err := prepare(dir); err != nil {
			t.Fatal(err)
		}
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := OpenLayout(t.Context(), root); err == nil || !strings.Contains(err.Error(), what) || NotImage(err) {
			t.Errorf("got %v, want %q", err, what)
		}
		_ = root.Close()
	}
}

// Of equal platforms the first is taken, of variants the one that runs everywhere.
// Several without a platform need a choice; the same one twice does not.
func TestChoose(t *testing.T) {
	ours, second := wanted, wanted
	second.Variant = "v2"
	a, b := Digest(imagetest.Digest([]byte("a"))), Digest(imagetest.Digest([]byte("b")))
	for _, tt := range []struct {
		all  []descriptor
		want string // "" is a.
	}{
		{[]descriptor{{Digest: b, Platform: &platform{Architecture: "mips", OS: "plan9"}}, {Digest: a, Platform: &ours}}, ""},
		{[]descriptor{{Digest: a}}, ""},
		{[]descriptor{{Digest: b, Platform: &second}, {Digest: a, Platform: &ours}}, ""},
		{[]descriptor{{Digest: a, Platform: &second}}, ""},
		{[]descriptor{{Digest: a, Platform: &ours}, {Digest: b, Platform: &ours}}, ""},
		{[]descriptor{{Digest: a, Platform: &ours}, {Digest: a}}, ""},
		{[]descriptor{{Digest: a}, {Digest: b}}, "2 images"},
		{[]descriptor{{Digest: b, Platform: &platform{Architecture: "mips", OS: "plan9"}}}, "it has plan9/mips"},
	} {
		d, err := choose(tt.all)
		if tt.want == "" && (err != nil || d.Digest != a) || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%v: got %v, %v, want %q", tt.all, d, err, tt.want)
		}
	}
}

// A command that is a string is its only word.
func TestWords(t *testing.T) {
	c, err := decode[configuration]([]byte(`{"config":{"Cmd":"a b","Entrypoint":["c"]}}`), "configuration")
	if err != nil || len(c.Config.Cmd) != 1 || c.Config.Cmd[0] != "a b" || len(c.Config.Entrypoint) != 1 {
		t.Errorf("got %+v, %v", c.Config, err)
	}
}
