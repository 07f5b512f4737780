package host

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/agentd-go/agentd/shim/internal/plan"
)

// A device or a socket of the host is nothing in the guest, and the error says which one
// it is. What has one meaning everywhere is taken.
func TestSourcesThatAreNoFiles(t *testing.T) {
	if !inMounts(t) {
		return
	}
	tree, outside := newTree(t)
	base := filepath.Dir(outside)
	block, char, null, socket := filepath.Join(base, "block"), filepath.Join(base, "char"), filepath.Join(base, "null"), filepath.Join(base, "socket")
	for name, node := range map[string]struct{ mode, major, minor uint32 }{
		block: {unix.S_IFBLK, 8, 0}, char: {unix.S_IFCHR, 226, 0}, null: {unix.S_IFCHR, 1, 3},
	} {
		if err := unix.Mknod(name, node.mode|0o600, int(unix.Mkdev(node.major, node.minor))); err != nil {
			t.Skipf("no devices can be made here: %v", err)
		}
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if err := os.Symlink(socket, filepath.Join(base, "link")); err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct{ source, want string }{
		{block, "a block device"},
		{char, "a character device"},
		{socket, "a socket"},
		{filepath.Join(base, "link"), "a socket"},
		{null, ""},
	} {
		err := tree.Add(i, nil, filepath.Join(base, "rootfs"), []plan.Bind{{Source: c.source, Name: "0"}}, []byte("{}"))
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: %v", c.source, err)
			}
			continue
		}
		refused, ok := errors.AsType[*plan.RefusedError](err)
		if !ok || refused.Field != "mounts.source" || !strings.Contains(err.Error(), strconv.Quote(c.source)) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.source, err, c.want)
		}
	}
	if err := tree.Remove(4); err != nil {
		t.Error(err)
	}
}
