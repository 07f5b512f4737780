package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

// readBuffer is the size of one read of the port's socket. Every frame fits, so frames
// need no copy.
const readBuffer = frame.MaxLength + 1<<20

// A link is the host's end of a port: the fast reader that all agents share.
type link struct {
	conn net.Conn
	done chan struct{}

	sending sync.Mutex // Held while one frame is sent.

	mu   sync.Mutex
	next uint32
	on   map[uint32]func(wire.Envelope) // Functions by id; the reader calls them.
	err  error                          // Why it ended; set before done is closed.

	stall chan chan struct{} // Stops the reader until the channel in it is closed.
}

func newLink(conn net.Conn) *link {
	return &link{conn: conn, done: make(chan struct{}), on: map[uint32]func(wire.Envelope){}, stall: make(chan chan struct{}, 1)}
}

// open reserves an id; the reader calls the function with its frames. The envelope's
// memory is reused when the function returns.
func (l *link) open(on func(wire.Envelope)) (id uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next++
	l.on[l.next] = on
	return l.next
}

func (l *link) close(id uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.on, id)
}

// send sends a message as a host of generation 7 does.
func (l *link) send(id uint32, m wire.Message) error {
	b, err := encode(id, m)
	if err != nil {
		return err
	}
	return l.write(b)
}

func encode(id uint32, m wire.Message) ([]byte, error) {
	return wire.AppendFrame(nil, wire.Newest, id, m)
}

// write sends whole frames.
func (l *link) write(frames []byte) error {
	l.sending.Lock()
	defer l.sending.Unlock()
	_, err := l.conn.Write(frames)
	return err
}

// hold stops the reader until the returned function is called.
func (l *link) hold() (release func()) {
	resume := make(chan struct{})
	l.stall <- resume
	return func() { close(resume) }
}

// run reads until the link ends; first holds the bytes that were read before.
func (l *link) run(first []byte) {
	buf := make([]byte, readBuffer)
	n := copy(buf, first)
	for {
		used, err := l.take(buf[:n])
		if err == nil {
			n = copy(buf, buf[used:n])
			var more int
			more, err = l.conn.Read(buf[n:])
			n += more
		}
		if err != nil {
			l.mu.Lock()
			l.err = fmt.Errorf("the link ended: %w", err)
			l.mu.Unlock()
			close(l.done)
			return
		}
		select {
		case resume := <-l.stall:
			<-resume
		default:
		}
	}
}

func (l *link) failure() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// take handles the whole frames at the start of b.
func (l *link) take(b []byte) (used int, err error) {
	for {
		rest := b[used:]
		if len(rest) < frame.HeaderSize {
			return used, nil
		}
		n := int(binary.BigEndian.Uint32(rest))
		if n < frame.MinLength || n > frame.MaxLength {
			return used, errors.New("a frame of an impossible length")
		}
		if len(rest) < 4+n {
			return used, nil
		}
		used += 4 + n
		l.mu.Lock()
		on := l.on[binary.BigEndian.Uint32(rest[4:])]
		l.mu.Unlock()
		if on == nil {
			continue
		}
		e, err := wire.DecodeEnvelope(rest[frame.HeaderSize : 4+n])
		if err != nil {
			return used, err
		}
		on(e)
	}
}
