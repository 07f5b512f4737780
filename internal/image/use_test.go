package image

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// A kernel is removed by its name where that is its own, else by its ID.
func TestRemoveKernel(t *testing.T) {
	c := openCache(t)
	dir := t.TempDir()
	var all []Kernel
	for _, desc := range []int{8, 4} {
		l := goodLibrary()
		l.memory = makeMemory("6.12.1", desc, 0x1000100)
		k, err := c.ImportKernel(writeFile(t, filepath.Join(dir, strconv.Itoa(desc)), makeLibrary(l)))
		must(t, err)
		all = append(all, k)
	}
	if all[0].Name != all[1].Name || all[0].ID == all[1].ID {
		t.Fatalf("they are %+v", all)
	}
	if _, err := c.RemoveKernel(all[0].Name); err == nil || errors.Is(err, ErrNoKernel) {
		t.Errorf("two have the name: %v", err)
	}
	if _, err := c.RemoveKernel("nothing"); !errors.Is(err, ErrNoKernel) {
		t.Error(err)
	}
	k, err := c.RemoveKernel(all[0].ID[:minID])
	must(t, err)
	if k.ID != all[0].ID {
		t.Errorf("%s is removed", k.ID)
	}
	_, err = c.RemoveKernel(all[1].Name)
	must(t, err)
	if left, err := c.Kernels(); len(left) > 0 || err != nil {
		t.Error(left, err)
	}
	if tmp, err := os.ReadDir(c.temporary()); len(tmp) > 0 || err != nil {
		t.Error("it is left in pieces:", tmp, err)
	}
}

// An initramfs that was used is young, whenever it was made.
func TestPruneInitramfs(t *testing.T) {
	c, old := openCache(t), time.Now().Add(-time.Hour)
	var dirs []string
	for _, agent := range []string{"one", "two"} {
		path, err := c.Initramfs([]byte(agent), Kernel{Initrd: true})
		must(t, err)
		dirs = append(dirs, filepath.Dir(path))
		must(t, os.Chtimes(filepath.Dir(path), old, old))
	}
	_, err := c.Initramfs([]byte("two"), Kernel{Initrd: true})
	must(t, err)
	for _, pretend := range []bool{true, false} {
		if u, err := c.PruneInitramfs(old.Add(time.Minute), pretend); u.Count != 1 || u.Size == 0 || err != nil {
			t.Error(u, err)
		}
	}
	if exists(dirs[0]) || !exists(dirs[1]) {
		t.Error("the wrong one is gone")
	}
	if uses, err := c.Uses(); uses[initramfsKind].Count != 1 || err != nil {
		t.Error(uses, err)
	}
}
