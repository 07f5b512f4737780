package agent

import (
	"context"
	"errors"
	"io"
	"math"
	"sync/atomic"
	"time"

	"github.com/agentd-go/agentd/internal/guest/sys"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

// absence is the pause between two reads while no host is there: such a read returns 0
// bytes at once. A host that comes back waits no longer than for a disk.
const absence = 100 * time.Millisecond

// flushing bounds the dropping of frames for a host that has gone. It takes a few memory
// operations.
const flushing = time.Second

// A returning port tells whether a host is there, which a read does not. The kernel learns
// of a host by a queue of its own, and may deliver the host's first bytes before that.
type returning interface{ HostThere() bool }

// looks is how often, a millisecond apart, the agent asks for the host after bytes have
// come: the kernel may learn of the host later.
const looks = 100

// A lasting port outlives its host. Bytes written while no host is there are dropped: the
// next host could not know what they belong to.
type lasting struct {
	Port
	away atomic.Bool
}

// Read notices that a host is there again when it has sent something: hosts speak first.
// Bytes that come while no host is there are from the last one, and are dropped like the
// rest of its input.
func (l *lasting) Read(b []byte) (int, error) {
	n, err := l.Port.Read(b)
	if n == 0 || !l.away.Load() {
		return n, err
	}
	if !l.there() {
		sys.Logf("the host has gone: its last %d bytes are dropped", n)
		return 0, io.EOF
	}
	_ = l.Port.SetWriteDeadline(time.Time{}) // Cannot fail: leave has set one.
	l.away.Store(false)
	return n, err
}

// there waits a little until the kernel knows of the host whose bytes have come.
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

// Write never fails: Read finds that the host has gone.
func (l *lasting) Write(b []byte) (int, error) {
	if !l.away.Load() {
		_, _ = l.Port.Write(b)
	}
	return len(b), nil
}

// leave drops the bytes that wait to be written. It reports whether a host was there.
func (l *lasting) leave() bool {
	if l.away.Swap(true) {
		return false
	}
	_ = l.Port.SetWriteDeadline(time.Now()) // On error the write ends when the next host reads it.
	return true
}

// lost cleans up after a host that has gone. Its commands run on, as those of a client
// that has gone do. All its other sessions end, and its input is dropped, so that the next
// host begins with a whole frame in both directions.
func (a *Agent) lost(why error) {
	if _, ok := errors.AsType[*frame.LengthError](why); ok {
		sys.Logf("read port: %v; waiting for the next host", why)
		_, _ = io.Copy(io.Discard, a.port) // The start of the next frame cannot be found.
	}
	if a.lasting.leave() {
		sys.Logf("the host has gone: %v", why)
		a.forgetHost()
		ctx, cancel := context.WithTimeout(context.Background(), flushing)
		defer cancel()
		_ = a.writer.Drain(ctx) // Fails only by its deadline.
	}
	a.frames = frame.NewReader(a.port)
	a.frames.Spares = a.host.Spares
	<-time.After(absence)
}

// isNewHost reports whether a message is the first one of a host that has come back. Such a
// host says that every client has gone, because the agent may not have noticed that the last
// host went: the port may have been closed and opened again before the agent looked at it.
func (a *Agent) isNewHost(m *wire.ClientDisconnected) bool {
	return a.lasting != nil && m.IDStart == 0 && m.IDEndExclusive == math.MaxUint32 && m.Incarnation == nil
}

// forgetHost makes ready for the next host, which begins with the first credit.
func (a *Agent) forgetHost() {
	a.forgetAll()
	a.host.Credit.Restart()
}

// forgetAll detaches every session, as if each client had gone.
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
