package transfer_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/agentd-go/agentd/internal/transfer"
)

// liar is a side that lists a file under another name.
type liar struct {
	transfer.Host
	name string
}

type lie struct {
	fs.DirEntry
	name string
}

func (l lie) Name() string { return l.name }

func (l liar) ReadDir(ctx context.Context, name string) ([]fs.DirEntry, error) {
	all, err := l.Host.ReadDir(ctx, name)
	for i := range all {
		all[i] = lie{all[i], l.name}
	}
	return all, err
}

// A guest's listing makes nobody write outside of the target.
func TestHostileListing(t *testing.T) {
	from := t.TempDir()
	if err := os.WriteFile(filepath.Join(from, "a"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"..", ".", "../a", "/a", "b/../../a", ""} {
		end := transfer.End{Side: liar{name: name}, Name: from}
		if _, err := transfer.New(t.Context(), end, transfer.End{Side: host, Name: t.TempDir()}, true); err == nil {
			t.Errorf("name %q is taken", name)
		}
		if err := transfer.WriteTar(t.Context(), &bytes.Buffer{}, end); err == nil {
			t.Errorf("an archive takes the name %q", name)
		}
	}
}

// A link that stands at the target is replaced, not written through; nor is one
// that stands in the place of a directory.
func TestLinkInTheWay(t *testing.T) {
	from, to, outside := tree(t), t.TempDir(), t.TempDir()
	precious := filepath.Join(outside, "precious")
	if err := errors.Join(
		os.WriteFile(precious, []byte("mine"), 0o600),
		os.Symlink(precious, filepath.Join(to, "a")), os.Symlink(outside, filepath.Join(to, "private")),
	); err != nil {
		t.Fatal(err)
	}
	run(t, from+"/.", to)
	if b, err := os.ReadFile(precious); err != nil || string(b) != "mine" {
		t.Errorf("behind the link: %q, %v", b, err)
	}
	if _, err := os.Lstat(filepath.Join(outside, "b")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("in the directory behind the link: %v", err)
	}
	if got, want := facts(t, to), facts(t, from); len(got) != len(want) {
		t.Errorf("copy %v, want %v", got, want)
	}
}
