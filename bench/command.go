package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/agentd-go/agentd/wire"
)

// keptText is how much of a command's output is kept.
const keptText = 64 << 10

// A command is a command in a machine; its output is counted on arrival.
type command struct {
	m       *machine
	id      uint32
	start   time.Time
	stdout  atomic.Int64  // Bytes so far.
	stderr  atomic.Int64  //
	started chan struct{} // Closed by core.exec.started.
	ended   chan struct{} // Closed by the last frame.

	// Set before ended is closed:
	text []byte
	code int32
	took time.Duration
	err  error
}

// begin starts a command.
func (m *machine) begin(name string, args ...string) (*command, error) {
	c := &command{m: m, started: make(chan struct{}), ended: make(chan struct{}), start: time.Now()}
	c.id = m.open(c.frame)
	return c, m.send(c.id, &wire.ExecRequest{Cmd: name, Args: args, Rows: 24, Cols: 80})
}

// frame handles a frame; the link's reader calls it.
func (c *command) frame(e wire.Envelope) {
	switch e.Type { //nolint:exhaustive // The others are for nobody here.
	case wire.TypeExecStdout, wire.TypeExecStderr:
		c.output(e)
		return
	case wire.TypeExecStarted:
		close(c.started)
		return
	case wire.TypeExecExited:
		var m wire.Message
		if m, c.err = wire.Decode(e); c.err == nil {
			if exited, ok := m.(*wire.ExecExited); ok {
				c.code = exited.Code
			}
		}
	case wire.TypeExecFailed, wire.TypeProtocolError:
		c.err = fmt.Errorf("the agent refused: %s %q", e.Type, e.Payload)
	default:
		return
	}
	c.took = time.Since(c.start)
	c.m.close(c.id)
	close(c.ended)
}

func (c *command) output(e wire.Envelope) {
	data, err := wire.DataOf(e)
	if err != nil {
		return // Missing bytes are detected at the end.
	}
	count := &c.stdout
	if e.Type == wire.TypeExecStderr {
		count = &c.stderr
	}
	count.Add(int64(len(data)))
	if room := keptText - len(c.text); room > 0 {
		c.text = append(c.text, data[:min(room, len(data))]...)
	}
}

// wait waits for the end.
func (c *command) wait(ctx context.Context) error {
	select {
	case <-c.ended:
	case <-c.m.done:
		return c.m.failure()
	case <-ctx.Done():
		return ctx.Err()
	}
	if c.err == nil && c.code != 0 {
		return fmt.Errorf("exit status %d: %s", c.code, c.text)
	}
	return c.err
}

// kill ends the command and waits for it.
func (c *command) kill(ctx context.Context) error {
	const sigkill = 9
	if err := c.m.send(c.id, &wire.ExecSignal{Signal: sigkill}); err != nil {
		return err
	}
	select {
	case <-c.ended:
		return c.err
	case <-c.m.done:
		return c.m.failure()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// do runs a command and waits for its end.
func (m *machine) do(ctx context.Context, name string, args ...string) (*command, error) {
	c, err := m.begin(name, args...)
	if err == nil {
		err = c.wait(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return c, nil
}

// errLost says that a measure has missed bytes.
var errLost = errors.New("bytes were lost")

// counted runs a command that must write n bytes, and returns their speed.
func (m *machine) counted(ctx context.Context, n int64, name string, args ...string) (float64, error) {
	c, err := m.do(ctx, name, args...)
	if err != nil {
		return 0, err
	}
	if got := c.stdout.Load(); got != n {
		return 0, fmt.Errorf("%s: %w: %d of %d arrived", name, errLost, got, n)
	}
	return speed(n, c.took), nil
}

// speed is in MiB/s.
func speed(n int64, took time.Duration) float64 { return float64(n) / (1 << 20) / took.Seconds() }
