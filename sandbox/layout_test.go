package sandbox

import (
	"os"
	"path/filepath"
	"testing"
)

// A guest that has left a link, or something else, in the agent's place makes the
// next start of its machine write nowhere else.
func TestPlant(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "precious")
	for _, tt := range []struct {
		name  string
		leave func(place string) error
	}{
		{"nothing", func(string) error { return nil }},
		{"the agent of before", func(place string) error { return os.WriteFile(place, []byte("older and longer"), 0o600) }},
		{"a link to a file of the host", func(place string) error { return os.Symlink(outside, place) }},
		{"a link that leads nowhere", func(place string) error { return os.Symlink(outside+".new", place) }},
		{"a directory that is not empty", func(place string) error { return os.MkdirAll(filepath.Join(place, "full"), 0o700) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := os.WriteFile(outside, []byte("mine"), 0o600); err != nil {
				t.Fatal(err)
			}
			root := t.TempDir()
			place := filepath.Join(root, initName)
			if err := tt.leave(place); err != nil {
				t.Fatal(err)
			}
			if err := plant(root, []byte("agent")); err != nil {
				t.Fatal(err)
			}
			info, err := os.Lstat(place)
			if err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&0o100 == 0 {
				t.Errorf("in its place: %v, %v", info, err)
			}
			if b, err := os.ReadFile(place); string(b) != "agent" || err != nil {
				t.Errorf("in its place: %q, %v", b, err)
			}
			if b, err := os.ReadFile(outside); string(b) != "mine" || err != nil {
				t.Errorf("behind the link: %q, %v", b, err)
			}
			if _, err := os.Lstat(outside + ".new"); err == nil {
				t.Error("a file was made behind the link")
			}
		})
	}
}
