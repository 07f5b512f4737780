package client

import (
	"context"
	"io"
	"math"
	"slices"

	"github.com/agentd-go/agentd/wire"
)

// A WatchOp is what has happened to a name.
type WatchOp string

// The operations. A name may be told as created twice: when its directory is new.
const (
	WatchCreate   WatchOp = "create"   // The name is there: made, or moved into the tree.
	WatchModify   WatchOp = "modify"   // Contents were changed.
	WatchClose    WatchOp = "close"    // A file that was open for writing was closed.
	WatchAttrib   WatchOp = "attrib"   // Mode, owner, times, links or extended attributes were changed.
	WatchRemove   WatchOp = "remove"   // The name is no longer there: removed, or moved out of the tree.
	WatchRename   WatchOp = "rename"   // Old is Name now.
	WatchOverflow WatchOp = "overflow" // Events were lost: list the tree again.
	WatchGone     WatchOp = "gone"     // The watched directory itself was removed, renamed or unmounted; the last event.
)

var watchOps = map[wire.WatchKind]WatchOp{
	wire.WatchCreate: WatchCreate, wire.WatchModify: WatchModify, wire.WatchClose: WatchClose, wire.WatchAttrib: WatchAttrib,
	wire.WatchRemove: WatchRemove, wire.WatchRename: WatchRename, wire.WatchOverflow: WatchOverflow, wire.WatchGone: WatchGone,
}

// A WatchEvent is one change in a directory of the guest.
type WatchEvent struct {
	Op   WatchOp
	Dir  bool   // It is a directory.
	Name string // Relative to the watched directory, which is "."; it may have any bytes but NUL.
	Old  string // The name before, of WatchRename.
}

// WatchOptions say what [Client.Watch] watches.
type WatchOptions struct {
	Recursive bool // All directories below, too, also those that are made later.

	// Exclude are patterns (see [path.Match]) of names that are left out with all that is
	// below them: of the whole name if the pattern has a slash, else of its last part.
	Exclude []string
}

// A Watch is a watched directory of the guest. It is for one goroutine, but for Close.
type Watch struct {
	archive *Archive
	unread  []byte
}

// Watch tells what changes in a directory or to a file of the guest, links in its name
// followed. All that happens after Watch has returned is told, in order; where the guest's
// queue is too short (fs.inotify.max_queued_events) WatchOverflow says so. A caller that lists
// the tree after Watch, and again after each WatchOverflow, misses nothing.
//
// It needs [ExtensionWatch], and raw records (see [Bulk]). The context bounds the watch.
func (c *Client) Watch(ctx context.Context, name string, o WatchOptions) (*Watch, error) {
	w, err := c.watch(ctx, name, o)
	if err != nil {
		return nil, pathError("watch", name, err)
	}
	return w, nil
}

func (c *Client) watch(ctx context.Context, name string, o WatchOptions) (*Watch, error) {
	if !c.Has(ExtensionWatch) || c.offer(1) == nil {
		return nil, &ExtensionError{Feature: "watches", Extension: ExtensionWatch}
	}
	op := &wire.OpWatch{Path: name, Recursive: o.Recursive, Exclude: o.Exclude}
	f, err := c.fetch(ctx, &wire.FSRequest{Op: op, Bulk: c.offer(math.MaxInt64)}, math.MaxInt64)
	if err != nil {
		return nil, err
	}
	w := &Watch{archive: &Archive{fetch: f, name: name}}
	first, err := w.event()
	if err == nil && first.Kind != wire.WatchReady {
		err = errUnexpected
	}
	if err != nil {
		_ = w.Close()
		return nil, err
	}
	return w, nil
}

// Next waits for the next event. After WatchGone the error is io.EOF.
func (w *Watch) Next() (WatchEvent, error) {
	e, err := w.event()
	if err == io.EOF { //nolint:errorlint // Ours, and bare.
		return WatchEvent{}, err
	}
	op, known := watchOps[e.Kind]
	if err == nil && !known {
		err = errUnexpected
	}
	if err != nil {
		return WatchEvent{}, pathError("watch", w.archive.name, err)
	}
	return WatchEvent{Op: op, Dir: e.Dir, Name: e.Name, Old: e.Old}, nil
}

// event reads the next event. It has at most one that is incomplete, and a piece of the link.
func (w *Watch) event() (wire.WatchEvent, error) {
	for {
		e, rest, ok, err := wire.ParseWatchEvent(w.unread)
		if ok || err != nil {
			w.unread = rest
			return e, err
		}
		p, err := w.archive.next()
		if err == io.EOF && len(w.unread) > 0 { //nolint:errorlint // Ours, and bare.
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return e, err
		}
		w.unread = append(slices.Clip(w.unread), p...)
	}
}

// Close ends the watch.
func (w *Watch) Close() error { return w.archive.Close() }
