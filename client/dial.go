package client

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"time"

	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

const (
	// handshakeTimeout is the protocol's (section 5.2): a relay answers from
	// its cache, at once.
	handshakeTimeout = 10 * time.Second

	// legacyStep is how many ids a client of a relay before 0.5 has: those
	// relays had 16 slots.
	legacyStep = math.MaxUint32 / 16

	// legacyGeneration is what such a relay's agent speaks.
	legacyGeneration wire.Generation = 1
)

// hello is a relay's greeting to a new client.
type hello struct {
	ids        IDs
	relayed    bool
	generation wire.Generation
	ready      wire.Ready
}

// Connect connects to an agent by the Unix socket of a relay, such as the one of a
// running machine (sandbox.Config.Socket). The context is for
// connecting, which takes 10 seconds at most, and not for the client.
func Connect(ctx context.Context, socket string) (*Client, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, fmt.Errorf("connect to agent relay: %w", err)
	}
	c, err := connectOver(ctx, conn)
	if err != nil {
		return nil, fmt.Errorf("agent relay %s: %w", socket, err)
	}
	return c, nil
}

// ConnectOver is Connect over a connection to a relay that the caller has made, by a tunnel
// for example. It owns the connection from then on, also on failure.
func ConnectOver(ctx context.Context, conn net.Conn) (*Client, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	c, err := connectOver(ctx, conn)
	if err != nil {
		return nil, fmt.Errorf("agent relay: %w", err)
	}
	return c, nil
}

func connectOver(ctx context.Context, conn net.Conn) (*Client, error) {
	h, frames, err := greet(ctx, conn)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return start(conn, frames, h), nil
}

// greet reads the handshake until ctx ends.
func greet(ctx context.Context, conn net.Conn) (hello, *frame.Reader, error) {
	interrupt := func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) }
	stop := context.AfterFunc(ctx, interrupt)
	h, frames, err := readHello(conn)
	if !stop() {
		// The deadline has passed, or is about to pass: the link cannot be used.
		return hello{}, nil, fmt.Errorf("handshake: %w", ctx.Err())
	}
	return h, frames, err
}

// readHello reads a relay's handshake (protocol section 5.2). Bytes after it stay in the
// frame reader.
//
//	id_start u32 | id_end_exclusive u32 | frame of core.ready
//	id_offset u32 |                       frame of core.ready   (before 0.5)
func readHello(r io.Reader) (hello, *frame.Reader, error) {
	var words [8]byte
	if _, err := io.ReadFull(r, words[:]); err != nil {
		return hello{}, nil, cutShort(err)
	}
	first, second := binary.BigEndian.Uint32(words[:]), binary.BigEndian.Uint32(words[4:])
	h, frames := hello{ids: IDs{first, second}, relayed: true}, frame.NewReader(r)
	// No range ends as low as the longest frame, so the two forms are distinct.
	legacy := second >= frame.MinLength && second <= frame.MaxLength
	if legacy {
		h.ids = IDs{first + 1, first + legacyStep}
		frames = frame.NewReaderFrom(words[4:], r)
	}
	if h.ids.Start == 0 || h.ids.End <= h.ids.Start {
		return hello{}, nil, fmt.Errorf("handshake: bad id range %d-%d", h.ids.Start, h.ids.End)
	}
	if err := h.readReady(frames); err != nil {
		return hello{}, nil, err
	}
	if legacy {
		h.generation = legacyGeneration
	}
	return h, frames, nil
}

// readReady reads the frame that the relay has kept.
func (h *hello) readReady(frames *frame.Reader) error {
	f, err := frames.Next()
	if err != nil {
		return fmt.Errorf("handshake: %w", unexpected(err))
	}
	e, err := wire.DecodeEnvelope(f.Body)
	if err != nil {
		return fmt.Errorf("handshake: %w", err)
	}
	if e.Type != wire.TypeReady || f.ID != 0 || f.Flags != 0 {
		return fmt.Errorf("handshake: %s with id %d and flags %v in place of %s", e.Type, f.ID, f.Flags, wire.TypeReady)
	}
	m, err := wire.Decode(e)
	if err != nil {
		return fmt.Errorf("handshake: %w", err)
	}
	ready, ok := m.(*wire.Ready)
	if !ok {
		return fmt.Errorf("handshake: %w", errUnexpected)
	}
	h.generation, h.ready = e.Generation, *ready
	return nil
}

// cutShort explains a handshake that ended within its first bytes.
func cutShort(err error) error {
	if errors.Is(err, io.EOF) {
		// A relay that has no free slot closes the connection at once.
		return fmt.Errorf("handshake: closed at once, perhaps because the relay has its %d clients: %v", frame.Slots, err) //nolint:errorlint // Nobody's end.
	}
	return fmt.Errorf("handshake: %w", err)
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
