package agent_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/internal/guest/agent"
	"github.com/agentd-go/agentd/internal/nstest"
	"github.com/agentd-go/agentd/internal/transfer"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

// An eavesdropper keeps the file operations that a client asks for, and ends the link
// in place of one.
type eavesdropper struct {
	io.ReadWriteCloser // The link.
	in                 *io.PipeWriter
	endAt              func(wire.FSOp) bool

	mu  sync.Mutex
	ops []string
}

func (e *eavesdropper) Write(b []byte) (int, error) { return e.in.Write(b) }

// describe is what matters of an operation: which names were synced, and which given.
func describe(op wire.FSOp) string {
	switch op := op.(type) {
	case *wire.OpSetStat:
		if op.FollowSymlink && op.Attrs == (wire.FSAttrs{}) {
			return "sync " + op.Path
		}
	case *wire.OpRename:
		return "name " + op.Dst
	}
	return ""
}

func (e *eavesdropper) pass(from io.Reader) error {
	for r := frame.NewReader(from); ; {
		f, whole, err := r.NextWhole()
		if err != nil {
			return err
		}
		if op := asked(f); op != nil {
			if e.endAt != nil && e.endAt(op) {
				return e.Close()
			}
			e.mu.Lock()
			e.ops = append(e.ops, describe(op))
			e.mu.Unlock()
		}
		if _, err := e.ReadWriteCloser.Write(whole); err != nil {
			return err
		}
	}
}

// asked is the file operation of a frame, nil for none.
func asked(f frame.Frame) wire.FSOp {
	if f.Flags == frame.Bulk {
		return nil
	}
	e, err := wire.DecodeEnvelope(f.Body)
	if err != nil || e.Type != wire.TypeFSRequest {
		return nil
	}
	m, err := wire.Decode(e)
	req, ok := m.(*wire.FSRequest)
	if err != nil || !ok {
		return nil
	}
	return req.Op
}

// overheard is a client whose operations are kept.
func overheard(t *testing.T, endAt func(wire.FSOp) bool) (*client.Client, *eavesdropper) {
	t.Helper()
	port, ours := link(t)
	h := &host{t: t, end: make(chan served, 1)}
	h.serve(agent.Open(port), port, config{generation: speaks})
	if _, err := frame.NewReader(ours).Next(); err != nil {
		t.Fatal(err)
	}
	from, in := io.Pipe()
	e := &eavesdropper{ReadWriteCloser: ours, in: in, endAt: endAt}
	go func() { _ = from.CloseWithError(e.pass(from)) }()
	c := client.New(&client.Greeting{Link: e, Generation: speaks}, client.IDs{})
	t.Cleanup(func() { _ = c.Close() })
	return c, e
}

// A settling is a copy into a machine.
type settling struct {
	name string
	copy func(*testing.T, transfer.Side) error
	want []string // The files, below /w.
}

var settlings = []settling{
	{"put", put, []string{"in"}},
	{"cp", copyTree, []string{"in/a", "in/b", "in/d/c"}},
	{"tar", unpack, []string{"in/a", "in/second", "in/d/c"}},
}

func put(t *testing.T, to transfer.Side) error {
	t.Helper()
	return transfer.Put(t.Context(), transfer.End{Side: to, Name: "/w/in"}, strings.NewReader("all of it"), nil)
}

func copyTree(t *testing.T, to transfer.Side) error {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"a", "b", "d/c"} {
		file := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, []byte(name), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	p, err := transfer.New(t.Context(), transfer.End{Side: transfer.Host{}, Name: dir}, transfer.End{Side: to, Name: "/w/in"}, transfer.Tree)
	if err != nil {
		return err
	}
	return errors.Join(p.Do(t.Context(), new(transfer.Progress)), p.Close())
}

// unpack has a name that comes twice and a second name of what has none yet.
func unpack(t *testing.T, to transfer.Side) error {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range []tar.Header{
		{Name: "a", Size: 3}, {Name: "a", Size: 3}, {Name: "second", Typeflag: tar.TypeLink, Linkname: "a"}, {Name: "d/c", Size: 3},
	} {
		h.Mode = 0o640
		err := w.WriteHeader(&h)
		if err == nil && h.Size > 0 {
			_, err = io.WriteString(w, "abc")
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return transfer.ReadTar(t.Context(), transfer.End{Side: to, Name: "/w/in"}, &b, func(string) {})
}

// A file of a machine gets its name after a sync of the disk that it is on, and the last
// operation is a sync: what succeeded outlives the machine.
func TestNamesComeAfterSync(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		for _, s := range settlings {
			c, heard := overheard(t, nil)
			if err := errors.Join(os.RemoveAll("/w"), os.Mkdir("/w", 0o700), s.copy(t, transfer.Guest{Client: c})); err != nil {
				t.Fatalf("%s: %v", s.name, err)
			}
			for _, name := range s.want {
				if info, err := os.Stat("/w/" + name); err != nil || info.Size() == 0 {
					t.Errorf("%s: %s: %v", s.name, name, err)
				}
			}
			heard.mu.Lock()
			if problem := outOfOrder(heard.ops); problem != nil {
				t.Errorf("%s: %v in %q", s.name, problem, heard.ops)
			}
			heard.mu.Unlock()
		}
	})
}

// outOfOrder holds that each name is given after a sync of its directory, and a sync
// is the end.
func outOfOrder(ops []string) error {
	names, end := 0, ""
	for i, op := range ops {
		name, gives := strings.CutPrefix(op, "name ")
		if end = op; !gives {
			continue
		}
		if names++; !slices.Contains(ops[:i], "sync "+path.Dir(name)) {
			return fmt.Errorf("%s has its name before a sync", name)
		}
	}
	if names == 0 || !strings.HasPrefix(end, "sync ") {
		return fmt.Errorf("%d names, and the end is %q", names, end)
	}
	return nil
}

// A link that ends at a sync leaves no name, and an error.
func TestLinkEndsAtSync(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		for _, s := range settlings {
			c, _ := overheard(t, func(op wire.FSOp) bool { return strings.HasPrefix(describe(op), "sync ") })
			if err := errors.Join(os.RemoveAll("/w"), os.Mkdir("/w", 0o700)); err != nil {
				t.Fatal(err)
			}
			err := s.copy(t, transfer.Guest{Client: c})
			if _, lost := errors.AsType[*client.LinkError](err); !lost {
				t.Errorf("%s: error %v", s.name, err)
			}
			for _, name := range s.want {
				if _, err := os.Stat("/w/" + name); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("%s: %s is there: %v", s.name, name, err)
				}
			}
		}
	})
}

// A full disk, of a machine or of this host, ends a copy with an error that has the name
// that was asked for, and leaves nothing of it.
func TestFullDisks(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		c, _ := overheard(t, nil)
		if err := errors.Join(os.Mkdir("/full", 0o700), syscall.Mount("tmpfs", "/full", "tmpfs", 0, "size=64k")); err != nil {
			t.Fatal(err)
		}
		for _, side := range []transfer.Side{transfer.Guest{Client: c}, transfer.Host{}} {
			to := transfer.End{Side: side, Name: "/full/in"}
			err := transfer.Put(t.Context(), to, bytes.NewReader(make([]byte, 1<<20)), nil)
			if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "in: ") || strings.Contains(err.Error(), ".agentctl-") {
				t.Errorf("%T: error %v", side, err)
			}
			if left, err := os.ReadDir("/full"); err != nil || len(left) > 0 {
				t.Errorf("%T: left %v, %v", side, left, err)
			}
		}
	})
}
