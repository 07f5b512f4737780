package agent_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"testing"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/internal/nstest"
	"github.com/agentd-go/agentd/wire"
)

// watching is a client of an agent with watches.
func watching(t *testing.T) *client.Client {
	t.Helper()
	return clientOf(t, wire.BulkSince, wire.Ready{Extensions: []string{wire.ExtensionWatch}})
}

// A client is told what changes, until the directory is gone.
func TestWatch(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		c := watching(t)
		must(t, os.MkdirAll("/top/d", 0o755), os.WriteFile("/top/old", nil, 0o644))
		w, err := c.Watch(t.Context(), "/top", client.WatchOptions{Recursive: true, Exclude: []string{"*.o"}})
		must(t, err, os.WriteFile("/top/x.o", nil, 0o644), os.Rename("/top/old", "/top/d/new"), os.Mkdir("/top/d/\xff", 0o755), os.Rename("/top", "/away"))
		for _, want := range []client.WatchEvent{
			{Op: client.WatchRename, Name: "d/new", Old: "old"},
			{Op: client.WatchCreate, Dir: true, Name: "d/\xff"},
			{Op: client.WatchGone, Dir: true, Name: "."},
		} {
			if got, err := w.Next(); err != nil || got != want {
				t.Errorf("got %+v, %v, want %+v", got, err, want)
			}
		}
		if _, err := w.Next(); !errors.Is(err, io.EOF) {
			t.Errorf("the end: %v", err)
		}
		must(t, w.Close())
		for _, o := range []struct {
			name string
			how  client.WatchOptions
			is   error
		}{{"/none", client.WatchOptions{}, fs.ErrNotExist}, {"/", client.WatchOptions{Exclude: []string{"["}}, nil}} {
			_, err := c.Watch(t.Context(), o.name, o.how)
			if pe, ok := errors.AsType[*fs.PathError](err); !ok || pe.Op != "watch" || o.is != nil && !errors.Is(err, o.is) {
				t.Errorf("%s: %v", o.name, err)
			}
		}
		if _, err := clientOf(t, wire.BulkSince, wire.Ready{}).Watch(t.Context(), "/", client.WatchOptions{}); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("without the extension: %v", err)
		}
	})
}

// Watches that are given up leave nothing: there may be as many again, and handles.
func TestWatchesEnd(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		c := watching(t)
		must(t, os.Mkdir("/top", 0o755))
		for round := range 3 {
			var all []*client.Watch
			for range 40 { // A hundred of one user are too many for inotify.
				w, err := c.Watch(t.Context(), "/top", client.WatchOptions{})
				must(t, err)
				all = append(all, w)
			}
			name := fmt.Sprintf("/top/%d", round)
			must(t, os.WriteFile(name, nil, 0o644))
			for _, w := range all {
				if e, err := w.Next(); err != nil || e.Op != client.WatchCreate {
					t.Errorf("%+v, %v", e, err)
				}
				must(t, w.Close())
			}
		}
	})
}

// A burst of changes in a large tree is told whole, or its loss is told. AGENTD_LONG=1 makes
// 50,000 changes among 100,000 files.
func TestWatchBurst(t *testing.T) {
	dirs := 20
	if os.Getenv("AGENTD_LONG") == "1" {
		dirs = 1000
	}
	nstest.Run(t, func() {
		nstest.Root(t)
		c := watching(t)
		const files, changed = 100, 50
		name := func(d, f int) string { return fmt.Sprintf("%d/%d", d, f) }
		for d := range dirs {
			must(t, os.MkdirAll(fmt.Sprintf("/top/%d", d), 0o755))
			for f := range files {
				must(t, os.WriteFile("/top/"+name(d, f), nil, 0o644))
			}
		}
		w, err := c.Watch(t.Context(), "/top", client.WatchOptions{Recursive: true})
		must(t, err)
		made := make(chan error, 1)
		go func() {
			var err error
			for n := range dirs * changed {
				err = errors.Join(err, os.Chmod("/top/"+name(n%dirs, n/dirs), 0o600))
			}
			made <- errors.Join(err, os.WriteFile("/top/end", nil, 0o644))
		}()
		told := map[string]bool{}
		e, err := w.Next()
		for ; err == nil && e.Name != "end" && e.Op != client.WatchOverflow; e, err = w.Next() {
			told[e.Name] = true
		}
		must(t, err, <-made)
		if len(told) != dirs*changed && e.Op != client.WatchOverflow {
			t.Errorf("%d changes are told, want %d", len(told), dirs*changed)
		}
		t.Logf("%d of %d changes, the end is %v", len(told), dirs*changed, e.Op)
		must(t, w.Close())
	})
}
