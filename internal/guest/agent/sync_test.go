package agent_test

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agentd-go/agentd/internal/nstest"
	"github.com/agentd-go/agentd/internal/transfer"
	"github.com/agentd-go/agentd/wire"
)

func synced(t *testing.T, s transfer.Sync, from, to transfer.End) (*transfer.Plan, *transfer.Progress) {
	t.Helper()
	p, err := s.Plan(t.Context(), from, to)
	if err != nil {
		t.Fatal(to.Name, err)
	}
	var done transfer.Progress
	if err := errors.Join(p.Do(t.Context(), &done), p.Close()); err != nil {
		t.Fatal(to.Name, err)
	}
	return p, &done
}

// A directory is made the same as another by archives, each way, and only what differs moves.
func TestSyncByArchives(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		c := extended(t, wire.BulkSince)
		plant(t)
		host, guest := transfer.Host{}, transfer.Guest{Client: c}
		how := transfer.Sync{How: transfer.Exact, Delete: true, Exclude: []string{"*.o"}}
		for n, step := range []struct{ from, to transfer.End }{
			{transfer.End{Side: host, Name: "/from"}, transfer.End{Side: guest, Name: "/in"}},
			{transfer.End{Side: guest, Name: "/in"}, transfer.End{Side: guest, Name: "/across"}},
			{transfer.End{Side: guest, Name: "/across"}, transfer.End{Side: host, Name: "/out"}},
		} {
			from, to := step.from.Name, step.to.Name
			synced(t, how, step.from, step.to)
			if !bytes.Equal(archived(t, to), archived(t, from)) {
				t.Errorf("%s is another tree", to)
			}
			err := errors.Join(
				os.MkdirAll(to+"/more/below", 0o700),
				os.WriteFile(to+"/more/keep.o", nil, 0o600),
				os.WriteFile(to+"/more/below/x", nil, 0o600),
				os.RemoveAll(to+"/d/e"), os.WriteFile(to+"/d/e", nil, 0o600),
				os.WriteFile(from+"/d/a", []byte{'b', byte(n)}, 0o640),
				os.WriteFile(from+"/skip.o", nil, 0o600),
			)
			if err != nil {
				t.Fatal(err)
			}
			p, done := synced(t, how, step.from, step.to)
			if done.Removed.Load() != 2 || p.Files > 3 { // Two names are one file: a, second and large.
				t.Errorf("%s: %d removed, %v", to, done.Removed.Load(), p.Changes())
			}
			if changed, err := p.Changed(t.Context()); err != nil || len(changed) > 0 {
				t.Errorf("%s: changed: %v, %v", to, changed, err)
			}
			if kept, err := os.ReadDir(to + "/more"); err != nil || len(kept) != 1 {
				t.Errorf("%s/more has %v, %v", to, kept, err)
			}
			if err := errors.Join(os.RemoveAll(to+"/more"), os.Remove(from+"/skip.o")); err != nil {
				t.Fatal(err)
			}
			if again, _ := synced(t, how, step.from, step.to); again.Files > 0 || len(again.Changes()) > 0 || !bytes.Equal(archived(t, to), archived(t, from)) {
				t.Errorf("%s is another tree: %v", to, again.Changes())
			}
			later := time.Unix(1700000000, int64(n+1))
			if err := os.Chtimes(from+"/d/e/large", later, later); err != nil {
				t.Fatal(err)
			}
			p, _ = synced(t, how, step.from, step.to)
			if p.Files != 1 || !slices.ContainsFunc(p.Changes(), func(c transfer.Change) bool { return strings.HasSuffix(c.Name, "large") }) {
				t.Errorf("%s: %v", to, p.Changes())
			}
		}
	})
}
