package image

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/agentd-go/agentd/internal/image/erofs"
)

// The names that a tree is read by are bounded, and are forgotten in time: those of a
// directory when it was read, those of a file with its last name.
func TestTreeRoom(t *testing.T) {
	dir := t.TempDir()
	for n := range 100 {
		name := filepath.Join(dir, fmt.Sprint("d", n%10), strings.Repeat("f", 50)+strconv.Itoa(n))
		writeFile(t, name, nil)
		if n%2 == 0 {
			must(t, os.Link(name, name+"-again"))
			must(t, os.Link(name, name+"-and-again"))
		}
	}
	walk := func(room int) (*treeReader, error) {
		root, err := os.OpenRoot(dir)
		must(t, err)
		defer func() { _ = root.Close() }()
		f, err := os.Create(filepath.Join(t.TempDir(), "lower"))
		must(t, err)
		defer func() { _ = f.Close() }()
		w := erofs.NewWriter(f, erofs.Options{})
		w.NextLayer()
		r := &treeReader{ctx: t.Context(), writer: w, root: root, dir: dir, links: map[inode]linked{}, room: room}
		return r, r.walk(".")
	}
	const room = 10_000 // More than one directory takes, less than all.
	r, err := walk(room)
	must(t, err)
	if len(r.links) != 0 || r.room != room {
		t.Errorf("%d links and %d bytes are kept", len(r.links), room-r.room)
	}
	if _, err := walk(1000); !errors.Is(err, ErrTooLarge) || !strings.Contains(err.Error(), "the names of large directories") {
		t.Errorf("with too little room: %v", err)
	}
	// A file whose other names are elsewhere stays known, and costs its name.
	must(t, os.Link(filepath.Join(dir, "d1", strings.Repeat("f", 50)+"1"), filepath.Join(t.TempDir(), "outside")))
	r, err = walk(treeRoom)
	must(t, err)
	if len(r.links) != 1 || r.room >= treeRoom {
		t.Errorf("%d links and %d bytes are kept", len(r.links), treeRoom-r.room)
	}
	c := openCache(t)
	first, err := c.ImportImage(t.Context(), dir, "")
	must(t, err)
	second, err := openCache(t).ImportImage(t.Context(), dir, "")
	must(t, err)
	if !bytes.Equal(read(t, first.Path), read(t, second.Path)) {
		t.Error("the same tree is another image")
	}
}
