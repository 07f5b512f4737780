package agent_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/internal/guest/agent"
	"github.com/agentd-go/agentd/internal/nstest"
	"github.com/agentd-go/agentd/internal/pax"
	"github.com/agentd-go/agentd/internal/transfer"
	"github.com/agentd-go/agentd/internal/tree"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

// clientOf is a client of an agent that has reported these facts.
func clientOf(t *testing.T, g wire.Generation, ready wire.Ready) *client.Client {
	t.Helper()
	port, ours := link(t)
	h := &host{t: t, end: make(chan served, 1)}
	h.serve(agent.Open(port), port, config{generation: g})
	if _, err := frame.NewReader(ours).Next(); err != nil {
		t.Fatal(err)
	}
	c := client.New(&client.Greeting{Link: ours, Generation: g, Ready: ready}, client.IDs{})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// plant makes a tree /from with what can be made in a namespace.
func plant(t *testing.T) {
	t.Helper()
	const top = "/from"
	large := bytes.Repeat([]byte("large"), 1<<20)
	err := errors.Join(
		os.MkdirAll(top+"/d/e", 0o750),
		os.WriteFile(top+"/d/a", []byte("a"), 0o640),
		os.WriteFile(top+"/d/\xff", nil, 0o600),
		os.WriteFile(top+"/d/e/large", large, 0o644),
		os.Link(top+"/d/a", top+"/second"),
		os.Symlink("d/\xff", top+"/link"),
		syscall.Mkfifo(top+"/fifo", 0o600),
		os.Chown(top+"/d/a", 1, 2),
		os.Truncate(top+"/d/e/large", 64<<20),
		os.Chtimes(top+"/d/a", time.Time{}, time.Unix(1600000000, 123456789)),
		os.Chtimes(top+"/d", time.Time{}, time.Unix(1500000000, 1)),
	)
	if err != nil {
		t.Fatal(err)
	}
}

// archived is a tree as an archive: two trees are the same if their archives are.
func archived(t *testing.T, top string) []byte {
	t.Helper()
	p, err := tree.NewPacker(top, tree.Pack{Xattrs: true, Links: true, Devices: true})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	b, err := io.ReadAll(p)
	if err != nil || len(p.Report.Problems) > 0 {
		t.Fatal(err, p.Report.Problems)
	}
	return b
}

func carry(ctx context.Context, from, to transfer.End, how transfer.How) (*transfer.Plan, error) {
	p, err := transfer.New(ctx, from, to, how)
	if err != nil {
		return nil, err
	}
	return p, errors.Join(p.Do(ctx, new(transfer.Progress)), p.Close())
}

// A tree goes into a machine, to another directory of it, and comes out, and is the same.
func TestArchivesKeepEverything(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		c := extended(t, wire.BulkSince)
		plant(t)
		host, guest := transfer.Host{}, transfer.Guest{Client: c}
		for _, step := range []struct{ from, to transfer.End }{
			{transfer.End{Side: host, Name: "/from"}, transfer.End{Side: guest, Name: "/in"}},
			{transfer.End{Side: guest, Name: "/in"}, transfer.End{Side: guest, Name: "/across"}},
			{transfer.End{Side: guest, Name: "/across"}, transfer.End{Side: host, Name: "/out"}},
		} {
			p, err := carry(t.Context(), step.from, step.to, transfer.Exact)
			if err != nil || len(p.Odd) > 0 {
				t.Fatal(step.to.Name, err)
			}
			if !bytes.Equal(archived(t, step.to.Name), archived(t, "/from")) {
				t.Errorf("%s is another tree", step.to.Name)
			}
			step.from.Name += "/." // Directories are listed by requests, which have no names that are not text.
			if p, err = carry(t.Context(), step.from, step.to, transfer.Exact); err != nil || p.Skipped < 3 {
				t.Errorf("again: %d files were skipped, %v", p.Skipped, err)
			}
		}
	})
}

// A tree that is not copied exactly has the permissions and times, and root as owner.
func TestArchivesOfTrees(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		c := extended(t, wire.BulkSince)
		plant(t)
		p, err := carry(t.Context(), transfer.End{Side: transfer.Host{}, Name: "/from"}, transfer.End{Side: transfer.Guest{Client: c}, Name: "/in"}, transfer.Tree)
		if err != nil || len(p.Odd) != 1 || !strings.Contains(p.Odd[0], "fifo") {
			t.Fatal(err, p.Odd)
		}
		var st, second syscall.Stat_t
		if err := errors.Join(syscall.Stat("/in/d/a", &st), syscall.Stat("/in/second", &second)); err != nil {
			t.Fatal(err)
		}
		if st.Uid != 0 || st.Mode&0o777 != 0o640 || st.Mtim.Nsec != 123456789 || st.Ino == second.Ino {
			t.Errorf("%+v", st)
		}
	})
}

// A full disk ends an archive with the error, and leaves no part of a file.
func TestArchiveOnFullDisk(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		c := extended(t, wire.BulkSince)
		plant(t)
		if err := errors.Join(os.Mkdir("/full", 0o700), syscall.Mount("tmpfs", "/full", "tmpfs", 0, "size=64k")); err != nil {
			t.Fatal(err)
		}
		for _, side := range []transfer.Side{transfer.Guest{Client: c}, transfer.Host{}} {
			from := transfer.End{Side: transfer.Guest{Client: c}, Name: "/from"}
			if _, err := carry(t.Context(), from, transfer.End{Side: side, Name: "/full/in"}, transfer.Tree); !errors.Is(err, syscall.ENOSPC) {
				t.Errorf("%T: error %v", side, err)
			}
			if left, err := os.ReadDir("/full/in/d/e"); err != nil && !errors.Is(err, fs.ErrNotExist) || len(left) > 0 {
				t.Errorf("%T: left %v, %v", side, left, err)
			}
			if err := os.RemoveAll("/full/in"); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// An archive that its reader gives up ends, also in the agent, and the next one works.
func TestArchiveIsGivenUp(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		c := extended(t, wire.BulkSince)
		if err := errors.Join(os.Mkdir("/from", 0o700), os.WriteFile("/from/f", bytes.Repeat([]byte("x"), 30<<20), 0o600)); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			ctx, cancel := context.WithCancel(t.Context())
			a, err := c.Pack(ctx, "/from", client.PackOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := a.Next(); err != nil {
				t.Fatal(err)
			}
			cancel()
			for err == nil {
				_, err = a.Next()
			}
			if !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			reader, stop := io.Pipe()
			_ = stop.CloseWithError(errors.New("no more"))
			if _, err := c.Unpack(t.Context(), "/to", reader, client.UnpackOptions{}); err == nil || !strings.Contains(err.Error(), "no more") {
				t.Error(err)
			}
		}
		if _, err := c.Unpack(t.Context(), "/to", strings.NewReader("no archive"), client.UnpackOptions{}); err == nil {
			t.Error("what is no archive was unpacked")
		}
		if _, err := c.Pack(t.Context(), "/missing", client.PackOptions{}); err != nil {
			t.Error(err)
		} else if _, err = io.ReadAll(mustPack(t, c, "/missing")); !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
	})
}

func mustPack(t *testing.T, c *client.Client, dir string) *client.Archive {
	t.Helper()
	a, err := c.Pack(t.Context(), dir, client.PackOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// An archive needs raw records, and names without a NUL.
func TestArchiveRefusals(t *testing.T) {
	nstest.Run(t, func() {
		c := extended(t, wire.BulkSince)
		c.SetBulk(client.Bulk{Off: true})
		if _, err := c.Pack(t.Context(), "/", client.PackOptions{}); !errors.Is(err, errors.ErrUnsupported) {
			t.Error(err)
		}
		c.SetBulk(client.Bulk{})
		for dir, why := range map[string]string{"/a\x00b": "NUL", "/" + strings.Repeat("x", 5000): "too long"} {
			if _, err := io.ReadAll(mustPack(t, c, dir)); err == nil || !strings.Contains(err.Error(), why) {
				t.Error(err)
			}
		}
	})
}

// A tar archive of a machine has everything, and so has the tree that a machine unpacks. A later
// member replaces an earlier one, and directories keep their times.
func TestTarKeepsEverything(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		c := extended(t, wire.BulkSince)
		plant(t)
		guest := transfer.Guest{Client: c}
		var b bytes.Buffer
		refuse := func(line string) { t.Error(line) }
		if err := transfer.WriteTar(t.Context(), &b, transfer.End{Side: guest, Name: "/from"}, refuse); err != nil {
			t.Fatal(err)
		}
		whole := b.Bytes()
		r := tar.NewReader(bytes.NewReader(whole))
		for {
			h, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil || h.Name != "from/" && !strings.HasPrefix(h.Name, "from/") {
				t.Fatal(h, err)
			}
		}
		if err := transfer.ReadTar(t.Context(), transfer.End{Side: guest, Name: "/again"}, bytes.NewReader(whole), refuse); err != nil {
			t.Fatal(err)
		}
		if got, want := withoutHoles(t, "/again/from"), withoutHoles(t, "/from"); got != want {
			t.Errorf("got %s\nwant %s", got, want)
		}
		err := transfer.ReadTar(t.Context(), transfer.End{Side: guest, Name: "/cut"}, bytes.NewReader(whole[:len(whole)-5000]), refuse)
		if err == nil {
			t.Error("a cut archive was taken for a whole one")
		}
	})
}

// withoutHoles describes a tree but for the holes in its files.
func withoutHoles(t *testing.T, top string) string {
	t.Helper()
	r := pax.NewReader(func() pax.Source {
		b := archived(t, top)
		return func() ([]byte, error) { p := b; b = nil; return p, nil }
	}())
	var all strings.Builder
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all.String()
		}
		if err != nil {
			t.Fatal(err)
		}
		h.Extents = nil
		fmt.Fprintf(&all, "%+v\n", *h)
	}
}
