package agent

import (
	"context"
	"errors"
	"io"
	"math"
	"sync/atomic"
	"time"

	"github.com/agentd-go/agentd/internal/guest/sys"
	"github.com/agentd-go/agentd/wire/frame"
)

// absence is how long a host that has gone is given before the next look for
// one: the end of its side reads as nothing at once, again and again. A host that
// comes back waits no longer than for a disk.
const absence = 100 * time.Millisecond

// flushing is how long what was on its way to a host that has gone may take to
// be dropped: it is a few memory operations.
const flushing = time.Second

// A returning port tells whether a host is there, which a read does not: the kernel
// hears of that on a queue of its own, and may show what a host says first before.
type returning interface{ HostThere() bool }

// A host that has said something is looked for so often, a millisecond apart, which
// leaves the kernel that much time to hear of it.
const looks = 100

// A lasting port outlives its host. While no host is there, what is written is
// dropped: nobody could know what it belongs to later.
type lasting struct {
	Port
	away atomic.Bool
}

// Read notes that a host is there again when it has said something: hosts speak
// first. What comes while none is there was said by the last one before it went, and
// is forgotten like the rest of its input.
func (l *lasting) Read(b []byte) (int, error) {
	n, err := l.Port.Read(b)
	if n == 0 || !l.away.Load() {
		return n, err
	}
	if !l.there() {
		sys.Logf("the host has gone: nobody is behind its last %d bytes", n)
		return 0, io.EOF
	}
	_ = l.Port.SetWriteDeadline(time.Time{}) // It was set by leave: it can be set.
	l.away.Store(false)
	return n, err
}

// there waits a little for the host whose words have come.
func (l *lasting) there() bool {
	port, ok := l.Port.(returning)
	for range looks {
		if !ok || port.HostThere() {
			return true
		}
		<-time.After(time.Millisecond)
	}
	return false
}

// Write never fails: the end of the host is for Read to find.
func (l *lasting) Write(b []byte) (int, error) {
	if !l.away.Load() {
		_, _ = l.Port.Write(b)
	}
	return len(b), nil
}

// leave drops what waits to be written. It reports whether a host was there.
func (l *lasting) leave() bool {
	if l.away.Swap(true) {
		return false
	}
	_ = l.Port.SetWriteDeadline(time.Now()) // A write that cannot be ended ends when a host takes it.
	return true
}

// lost is the end of a host. Its commands go on, as those of a client that has
// gone do; everything else of it ends, and its input up to there is forgotten, so
// that the next host begins with a whole frame, both ways.
func (a *Agent) lost(why error) {
	if _, ok := errors.AsType[*frame.LengthError](why); ok {
		sys.Logf("read port: %v; waiting for the next host", why)
		_, _ = io.Copy(io.Discard, a.port) // Nothing tells where a frame would begin.
	}
	if a.lasting.leave() {
		sys.Logf("the host has gone: %v", why)
		a.forgetAll()
		ctx, cancel := context.WithTimeout(context.Background(), flushing)
		defer cancel()
		_ = a.writer.Drain(ctx) // It fails only by time.
	}
	a.frames = frame.NewReader(a.port)
	a.frames.Spares = a.host.Spares
	<-time.After(absence)
}

// forgetAll lets go of every session, as if each client had gone.
func (a *Agent) forgetAll() {
	a.disconnect(0, math.MaxUint32)
	a.leases.clear()
	if o := a.replies[nobody]; o != nil {
		o.Discard()
		delete(a.replies, nobody)
	}
}

// Interrupt makes Serve return Interrupted. It may be called from anywhere, once.
func (a *Agent) Interrupt() {
	a.interrupted.Store(true)
	if err := a.port.SetReadDeadline(time.Now()); err != nil {
		sys.Logf("interrupt: %v", err)
	}
}
