package contract

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

// speaks is the generation of our frames. It is higher than some agents under test
// know, which must not matter.
const speaks wire.Generation = 7

// A Received is one frame of the agent.
type Received struct {
	frame.Frame
	wire.Envelope
	Message wire.Message
	Record  wire.Record // Of a raw record, which has no envelope.
	Nr      int64       // Counts the frames of all ids, in the order in which they came.
}

// A Link is the host's end of a byte link to an agent. Its methods may be called
// from several goroutines.
type Link struct {
	write   func([]byte) error
	writing sync.Locker // Held while bytes that belong together are written.

	arrived atomic.Int64 // Frames of the agent.

	mu         sync.Mutex
	used       map[uint32]struct{} // Ids of the first slot that we have spoken on.
	more       sync.Cond
	frames     map[uint32][]Received
	over       map[uint32]wire.Type // The terminal frame of an id that the host has not used since.
	generation wire.Generation      // Of every frame of the agent; 0 before the first.
	repeats    bool                 // Ids are used again before their answers have come.
	faults     []error
	end        error
}

// NewLink returns a Link that sends by write. What else writes to the same link
// holds the lock writing for each whole frame.
func NewLink(write func([]byte) error, writing sync.Locker) *Link {
	l := &Link{
		write: write, writing: writing,
		used: map[uint32]struct{}{}, frames: map[uint32][]Received{}, over: map[uint32]wire.Type{},
	}
	l.more.L = &l.mu
	return l
}

// Run delivers frames until the link ends.
func (l *Link) Run(next func() (frame.Frame, error)) {
	for {
		f, err := next()
		if err != nil {
			l.End(err)
			return
		}
		l.Deliver(f)
	}
}

// Deliver takes a frame of the agent.
func (l *Link) Deliver(f frame.Frame) {
	r, err := open(f)
	l.mu.Lock()
	defer l.mu.Unlock()
	r.Nr = l.arrived.Add(1)
	if err == nil && r.Type != "" {
		err = l.judgeLocked(r)
	}
	if err != nil {
		l.faults = append(l.faults, fmt.Errorf("frame on id %#x: %w", f.ID, err))
	}
	l.frames[f.ID] = append(l.frames[f.ID], r)
	l.more.Broadcast()
}

// End says why nothing more will come.
func (l *Link) End(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.end = err
	l.more.Broadcast()
}

// open decodes a frame and checks it against the index.
func open(f frame.Frame) (Received, error) {
	r := Received{Frame: f}
	var err error
	switch {
	case f.Flags == frame.Bulk:
		r.Record, err = wire.DecodeRecord(f.Body)
		return r, err
	case wire.IsLease(f):
		_, err = wire.DecodeLease(f.Body)
		return r, err
	}
	if r.Envelope, err = wire.DecodeEnvelope(f.Body); err != nil {
		return r, err
	}
	info, known := wire.Lookup(r.Type)
	if !known || info.Direction&wire.GuestToHost == 0 || info.Flags != f.Flags {
		return r, fmt.Errorf("%s with flags %v", r.Type, f.Flags)
	}
	if r.Message, err = wire.Decode(r.Envelope); err != nil {
		return r, fmt.Errorf("%s: %w", r.Type, err)
	}
	return r, nil
}

// judgeLocked checks the order of frames (protocol sections 4 and 6).
//
//holds:wire 4: exact flags; nothing after a terminal frame, in every behaviour
//holds:wire 6: one `v` on every frame of a run
func (l *Link) judgeLocked(r Received) error {
	if l.generation == 0 {
		l.generation = r.Generation
	}
	if r.Generation != l.generation {
		return fmt.Errorf("%s of generation %d after others of %d", r.Type, r.Generation, l.generation)
	}
	credit := r.Type == wire.TypeWorkloadTransportCredit // It has an id that a host may send nonsense on.
	if last, over := l.over[r.ID]; over && !l.repeats && !credit {
		return fmt.Errorf("%s after the terminal %s", r.Type, last)
	}
	if r.Flags&frame.Terminal != 0 {
		l.over[r.ID] = r.Type
	}
	return nil
}

// Faults returns the errors in single frames since the last call.
func (l *Link) Faults() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := errors.Join(l.faults...)
	l.faults = nil
	return err
}

// Claims reports whether frames on an id are for this Link, beside a client that
// has the first slot: all but the ids of that slot on which the Link never spoke.
func (l *Link) Claims(id uint32) bool {
	if slot, owned := frame.SlotOf(id); owned && slot > 0 {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	_, used := l.used[id]
	return used
}

// Write sends whole frames on ids that are used from now on.
func (l *Link) Write(b []byte, ids ...uint32) error {
	return l.Pieces(func(write func([]byte) error) error { return write(b) }, ids...)
}

// Pieces sends the bytes that f writes, without other bytes between them.
func (l *Link) Pieces(f func(write func([]byte) error) error, ids ...uint32) error {
	l.mu.Lock()
	for _, id := range ids {
		delete(l.over, id)
		l.used[id] = struct{}{}
	}
	l.mu.Unlock()
	l.writing.Lock()
	defer l.writing.Unlock()
	return f(l.write)
}

// Kept returns how many frames of the ids in [from, to) wait to be taken.
func (l *Link) Kept(from, to uint32) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, list := range l.frames {
		if id >= from && id < to {
			n += len(list)
		}
	}
	return n
}

// waits reports whether a frame of an id waits to be taken.
func (l *Link) waits(id uint32) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.frames[id]) > 0
}

// Drop forgets the frames of the ids in [from, to).
func (l *Link) Drop(from, to uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id := range l.frames {
		if id >= from && id < to {
			delete(l.frames, id)
		}
	}
}

// Next takes the oldest frame of an id that was not taken.
func (l *Link) Next(ctx context.Context, id uint32) (Received, error) {
	stop := context.AfterFunc(ctx, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.more.Broadcast()
	})
	defer stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		if list := l.frames[id]; len(list) > 0 {
			if l.frames[id] = list[1:]; len(list) == 1 {
				delete(l.frames, id)
			}
			return list[0], nil
		}
		switch {
		case l.end != nil:
			return Received{}, fmt.Errorf("waiting for a frame on id %#x: the link has ended: %w", id, l.end)
		case ctx.Err() != nil:
			return Received{}, fmt.Errorf("waiting for a frame on id %#x: %w", id, context.Cause(ctx))
		}
		l.more.Wait()
	}
}
