package exec

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A file is remembered only when its times cannot hide a change, and read anew
// after one, also if it has the same size.
func TestRememberedFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "passwd")
	put := func(text string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var f rememberedFile
	read := func(want string) {
		t.Helper()
		if got, err := f.read(name); err != nil || string(got) != want {
			t.Errorf("read %q, %v; want %q", got, err, want)
		}
	}
	put("one")
	read("one")
	if f.content != nil {
		t.Error("a file that was just changed is remembered")
	}
	time.Sleep(rememberAfter + 100*time.Millisecond) // Only the kernel sets the time of a change.
	read("one")
	if f.content == nil {
		t.Error("a file that has not changed is not remembered")
	}
	read("one")
	put("two")
	read("two")
	if err := os.Rename(name, name+"~"); err != nil {
		t.Fatal(err)
	}
	read("")
}
