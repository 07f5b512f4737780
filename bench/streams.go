package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/agentd-go/agentd/wire"
)

const (
	// piece is how much the host sends in one frame.
	piece = 64 << 10
	// toolName is bench/guest in the guest.
	toolName = "bench-guest"
	// line is the line that a program prints repeatedly: 44 characters and a newline.
	line = "the quick brown fox jumps over the lazy dog."
)

// stdout is a flood in the largest writes that programs make.
func stdout(ctx context.Context, m *machine, size int64) (float64, error) {
	return m.counted(ctx, size, "dd", "if=/dev/zero", "bs=1M", "count="+mebi(size))
}

// lines is a flood in short lines.
func lines(ctx context.Context, m *machine, size int64) (float64, error) {
	return m.counted(ctx, size, "sh", "-c", fmt.Sprintf("yes '%s' | head -c %d", line, size))
}

// linesAlone measures the programs of lines without an agent.
func linesAlone(ctx context.Context, m *machine, size int64) (float64, error) {
	c, err := m.do(ctx, "sh", "-c", fmt.Sprintf("yes '%s' | head -c %d >/dev/null", line, size))
	if err != nil {
		return 0, err
	}
	return speed(size, c.took), nil
}

func mebi(size int64) string { return strconv.FormatInt(size>>20, 10) }

// stdin feeds a command that counts what it reads.
func stdin(ctx context.Context, m *machine, size int64) (float64, error) {
	c, err := m.begin("dd", "of=/dev/null", "bs=64k", "iflag=fullblock")
	if err != nil {
		return 0, err
	}
	if err := m.feed(c.id, size, func(b []byte) wire.Message { return &wire.ExecStdin{Data: b} }); err != nil {
		return 0, err
	}
	if err := c.wait(ctx); err != nil {
		return 0, err
	}
	if !strings.HasPrefix(string(c.text), fmt.Sprintf("%d+0 records in", size/(64<<10))) {
		return 0, fmt.Errorf("%w: the command says %q", errLost, c.text)
	}
	return speed(size, c.took), nil
}

// feed sends size bytes as messages on an id, and then the end: a message without
// bytes.
func (m *machine) feed(id uint32, size int64, message func([]byte) wire.Message) error {
	whole, err := encode(id, message(make([]byte, piece)))
	if err != nil {
		return err
	}
	for ; size >= piece; size -= piece {
		if err := m.write(whole); err != nil {
			return err
		}
	}
	if size > 0 {
		if err := m.send(id, message(make([]byte, size))); err != nil {
			return err
		}
	}
	return m.send(id, message(nil))
}

// tcpOut is a flood from a server in the guest.
func tcpOut(ctx context.Context, m *machine, size int64) (float64, error) {
	s, err := m.server("serve", strconv.FormatInt(size, 10))
	if err != nil {
		return 0, err
	}
	start := time.Now()
	c, err := m.connect(ctx, s)
	if err != nil {
		return 0, err
	}
	defer c.close()
	if err := c.await(ctx, c.eof); err != nil {
		return 0, err
	}
	if c.got != size {
		return 0, fmt.Errorf("TCP: %w: %d of %d arrived", errLost, c.got, size)
	}
	return speed(size, time.Since(start)), s.wait(ctx)
}

// tcpIn is a flood to a server in the guest.
func tcpIn(ctx context.Context, m *machine, size int64) (float64, error) {
	s, err := m.server("sink")
	if err != nil {
		return 0, err
	}
	start := time.Now()
	c, err := m.connect(ctx, s)
	if err != nil {
		return 0, err
	}
	defer c.close()
	frame, err := encode(c.id, &wire.TCPData{Data: make([]byte, piece)})
	if err != nil {
		return 0, err
	}
	for range size / piece {
		if err := m.write(frame); err != nil {
			return 0, err
		}
	}
	if err := m.send(c.id, &wire.TCPEOF{}); err != nil {
		return 0, err
	}
	if err := s.wait(ctx); err != nil {
		return 0, err
	}
	if want := "listening\n" + strconv.FormatInt(size/piece*piece, 10) + "\n"; string(s.text) != want {
		return 0, fmt.Errorf("TCP: %w: the server says %q", errLost, s.text)
	}
	return speed(size, time.Since(start)), nil
}

// ports gives each server its own port, because a used one stays in TIME-WAIT.
var ports = 9000

// server starts bench/guest as a server, and waits until it listens.
func (m *machine) server(role string, args ...string) (*server, error) {
	ports++
	c, err := m.begin(toolName, append([]string{role, strconv.Itoa(ports)}, args...)...)
	if err != nil {
		return nil, err
	}
	return &server{c, ports}, nil
}

type server struct {
	*command
	port int
}

// listens waits until the server says that it listens.
func (s *server) listens(ctx context.Context) error {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for s.stdout.Load() == 0 {
		select {
		case <-tick.C:
		case <-s.ended:
			return errors.Join(s.err, fmt.Errorf("the server ended: %s", s.text))
		case <-s.m.done:
			return s.m.failure()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// A connection is one TCP session.
type connection struct {
	m              *machine
	id             uint32
	connected, eof chan struct{}
	failed         chan error
	got            int64 // Read after eof.
}

func (m *machine) connect(ctx context.Context, s *server) (*connection, error) {
	if err := s.listens(ctx); err != nil {
		return nil, err
	}
	c := &connection{m: m, connected: make(chan struct{}), eof: make(chan struct{}), failed: make(chan error, 1)}
	c.id = m.open(c.frame)
	if err := m.send(c.id, &wire.TCPConnect{Host: "127.0.0.1", Port: uint16(s.port)}); err != nil {
		return nil, err
	}
	return c, c.await(ctx, c.connected)
}

func (c *connection) frame(e wire.Envelope) {
	switch e.Type { //nolint:exhaustive // The others are for nobody here.
	case wire.TypeTCPConnected:
		close(c.connected)
	case wire.TypeTCPData:
		data, _ := wire.DataOf(e) // Missing bytes are detected at the end.
		c.got += int64(len(data))
	case wire.TypeTCPEOF:
		close(c.eof)
	case wire.TypeTCPFailed, wire.TypeProtocolError:
		select {
		case c.failed <- fmt.Errorf("%s: %q", e.Type, e.Payload):
		default:
		}
	}
}

func (c *connection) await(ctx context.Context, what <-chan struct{}) error {
	select {
	case <-what:
		return nil
	case err := <-c.failed:
		return err
	case <-c.m.done:
		return c.m.failure()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// close closes the connection and ignores later frames.
func (c *connection) close() {
	_ = c.m.send(c.id, &wire.TCPClose{}) // The next operation detects an ended link.
	c.m.close(c.id)
}
