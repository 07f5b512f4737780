package relay

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/agentd-go/agentd/internal/mux"
	"github.com/agentd-go/agentd/wire/frame"
)

const (
	// writeSize is the approximate size of one write to a client. A socket's buffer
	// holds some 200 KiB, so larger writes would block anyway.
	writeSize = 128 << 10

	// maxBatch bounds the pieces in one write. The smallest frames of the agent that
	// come in floods have 4 KiB.
	maxBatch = writeSize >> 12
)

// A client is one connection and its slot.
type client struct {
	relay *Relay
	slot  *slot
	conn  net.Conn
	in    *mux.Inbox // Frames from the guest.
	spoke bool       // It has sent something. Guarded by Relay.mu; only the client's reader sets it and may read it without the lock.

	// slow says that the outputs of its commands are held back. Changed under Relay.mu.
	slow atomic.Bool
	// since is the start of the current write (UnixNano), or 0 if there is none.
	since atomic.Int64

	mu  sync.Mutex
	why string // Why the relay has disconnected it; "" if it has not.
}

// receive admits a connection. It waits for a slot whose client has left. If there is
// no slot, it closes the connection without a byte, as reference relays do.
func (r *Relay) receive(conn net.Conn) {
	timer := time.NewTimer(entryWait)
	defer timer.Stop()
	for {
		err := r.admit(conn)
		if err == nil {
			return
		}
		if errors.Is(err, errLeaving) {
			select {
			case <-r.freed:
				continue
			case <-timer.C:
			case <-r.done:
			}
		}
		_ = conn.Close() // Nothing was written.
		return
	}
}

// admit gives a connection a slot and serves it. After an error the caller still owns
// the connection.
func (r *Relay) admit(conn net.Conn) error {
	c := &client{relay: r, conn: conn, in: mux.NewInbox(mux.InboxConfig{
		Memory:  clientMemory,
		Budget:  r.memory,
		Storage: r.spill,
		Stored:  clientStored,
	})}
	err := r.enter(c)
	if err != nil {
		c.in.Drop()
	}
	return err
}

// enter gives c a slot. It queues the handshake before any frame can be queued.
func (r *Relay) enter(c *client) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return r.err
	}
	s, err := r.takeLocked()
	if err != nil {
		return err
	}
	if err := c.in.Push(r.handshake(s)); err != nil {
		s.phase = free
		return err
	}
	r.leaseLocked(s)
	c.slot, s.client = s, c
	r.loops.Go(c.run)
	return nil
}

// handshake returns the first bytes to a client (protocol section 5.2).
func (r *Relay) handshake(s *slot) []byte {
	b := make([]byte, 0, 8+len(r.cfg.Ready))
	b = binary.BigEndian.AppendUint32(b, s.start)
	b = binary.BigEndian.AppendUint32(b, s.end)
	return append(b, r.cfg.Ready...)
}

// run serves the client until it or the link ends.
func (c *client) run() {
	written := make(chan struct{})
	go func() {
		defer close(written)
		c.write()
	}()
	err := c.read()
	// If the machine's link has ended, write still delivers its last frames.
	if !errors.Is(err, mux.ErrClosed) {
		c.close()
	}
	<-written
	c.report(err)
	c.relay.leave(c)
}

// write passes the guest's frames to the client.
func (c *client) write() {
	defer c.close() // Ends the reading too.
	var batch [maxBatch][]byte
	for {
		pieces, err := c.take(batch[:0])
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, mux.ErrClosed) {
				c.drop("what it has left unread is lost: " + err.Error())
			}
			return
		}
		c.relay.wake()
		c.since.Store(time.Now().UnixNano())
		_, err = pieces.WriteTo(c.conn)
		c.since.Store(0)
		if err != nil {
			return
		}
		// After the write: if this does not see that the client is slow, then the
		// goroutine that marks it slow sees that no write is under way.
		if c.slow.Load() && c.in.Waiting() <= quickBelow {
			c.relay.quick(c)
		}
	}
}

// take waits for the oldest piece for the client, and adds further waiting pieces up to
// the size of one write.
func (c *client) take(batch net.Buffers) (net.Buffers, error) {
	p, err := c.in.Next()
	if err != nil {
		return nil, err
	}
	size := len(p)
	for batch = append(batch, p); size < writeSize && len(batch) < maxBatch; size += len(p) {
		if p = c.in.Poll(); p == nil {
			break
		}
		batch = append(batch, p)
	}
	return batch, nil
}

// A refusal is the error for a frame for which a client is disconnected.
type refusal struct{ why string }

func (e *refusal) Error() string { return e.why }

// read passes the client's frames to the guest. While the guest reads nothing, read
// waits, and so does the client.
func (c *client) read() error {
	frames := frame.NewReader(c.conn)
	for {
		f, whole, err := frames.NextWhole()
		if err != nil {
			return err
		}
		if err := c.check(f); err != nil {
			return err
		}
		if !c.spoke {
			c.relay.speak(c)
		}
		if err := c.pass(f, whole); err != nil {
			return err
		}
		c.relay.wake()
		if f.Flags&frame.SessionStart != 0 && c.slow.Load() {
			c.relay.holdNew(c, f.ID)
		}
		if f.Flags == frame.Shutdown && c.relay.cfg.Shutdown != nil {
			c.relay.cfg.Shutdown()
		}
	}
}

// pass queues a frame for the guest.
func (c *client) pass(f frame.Frame, whole []byte) error {
	if f.Flags == frame.Bulk && c.slot.records != nil {
		return c.slot.records.Send(append(c.slot.lease[:], whole...))
	}
	return c.slot.out.Send(whole)
}

// check refuses a frame that the client must not send, and notes the session that the
// frame begins.
func (c *client) check(f frame.Frame) error {
	s := c.slot
	switch {
	case f.ID == 0 && f.Flags == frame.Shutdown:
		return nil
	case f.ID < s.start || f.ID >= s.end:
		return &refusal{fmt.Sprintf("a frame has id %d, which is not of %d-%d", f.ID, s.start, s.end-1)}
	case f.ID == s.end-1:
		c.relay.useLast(s)
	}
	if f.Flags&frame.SessionStart == 0 || !c.relay.cfg.Words.IsCommand(f) {
		return nil
	}
	if err := c.relay.begin(s, f.ID); err != nil {
		return &refusal{err.Error()}
	}
	return nil
}

// drop disconnects the client and notes why.
func (c *client) drop(why string) {
	c.mu.Lock()
	if c.why == "" {
		c.why = why
	}
	c.mu.Unlock()
	c.close()
}

func (c *client) close() {
	c.in.Drop()
	c.relay.wake()
	_ = c.conn.Close() // An error would change nothing.
}

// report logs why a client was disconnected, unless it has closed the connection
// itself.
func (c *client) report(err error) {
	c.mu.Lock()
	why := c.why
	c.mu.Unlock()
	var refused *refusal
	var length *frame.LengthError
	if why == "" && (errors.As(err, &refused) || errors.As(err, &length)) {
		why = err.Error()
	}
	if why != "" {
		c.relay.log("client with ids from %d on is disconnected: %s", c.slot.start, why)
	}
}
