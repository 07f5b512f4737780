package main

import (
	"context"
	"errors"
	"math"
	"strconv"
	"time"

	"github.com/agentd-go/agentd/wire"
)

const (
	// atOnce is how many commands are requested in one burst.
	atOnce = 100
	// floods is how many commands flood the link together.
	floods = 50
	// floodTime is how long floods are measured.
	floodTime = 3 * time.Second
	// unread is the size of the input that a command does not read.
	unread = 8 << 20
	// silence is how long that command runs, in seconds. A command that it delays is
	// delayed for that time and counts as blocked.
	silence = 5
	// commandTimeout is how long a command during many floods may take.
	commandTimeout = 15 * time.Second
	// pingSince is the first generation that has core.ping.
	pingSince = 6
	// pingPause is the pause between two pings.
	pingPause = 5 * time.Millisecond
)

// blocked stands for the latency of a command without an answer.
var blocked = math.Inf(1)

// once runs one command after the other, and returns the milliseconds of each.
func once(ctx context.Context, m *machine, number int) (all []float64, err error) {
	for range number {
		c, err := m.do(ctx, "true")
		if err != nil {
			return all, err
		}
		all = append(all, millis(c.took))
	}
	return all, nil
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// burst runs many commands at once and returns commands per second.
func burst(ctx context.Context, m *machine) (float64, error) {
	start := time.Now()
	all := make([]*command, atOnce)
	for i := range all {
		c, err := m.begin("true")
		if err != nil {
			return 0, err
		}
		all[i] = c
	}
	for _, c := range all {
		if err := c.wait(ctx); err != nil {
			return 0, err
		}
	}
	return atOnce / time.Since(start).Seconds(), nil
}

// pings sends pings until the channel is closed, and returns the milliseconds of each.
func (m *machine) pings(ctx context.Context, until <-chan struct{}) (all []float64, err error) {
	tick := time.NewTicker(pingPause)
	defer tick.Stop()
	for {
		start, pong := time.Now(), make(chan struct{})
		id := m.open(func(wire.Envelope) { close(pong) })
		if err := m.send(id, &wire.Ping{}); err != nil {
			return all, err
		}
		select {
		case <-pong:
			all = append(all, millis(time.Since(start)))
			m.close(id)
		case <-m.done:
			return all, m.failure()
		case <-ctx.Done():
			return append(all, blocked), ctx.Err()
		}
		select {
		case <-until:
			return all, nil
		case <-tick.C:
		}
	}
}

// pinged sends pings while work runs.
func (m *machine) pinged(ctx context.Context, work func() error) ([]float64, error) {
	over := make(chan struct{})
	var failed error
	go func() {
		defer close(over)
		failed = work()
	}()
	all, err := m.pings(ctx, over)
	<-over
	if err == nil {
		err = failed
	}
	return all, err
}

// besideUnread runs commands while another command leaves its input unread.
func besideUnread(ctx context.Context, m *machine, number int) ([]float64, error) {
	c, err := m.begin("sleep", strconv.Itoa(silence))
	if err != nil {
		return nil, err
	}
	fed := make(chan error, 1)
	beside := make(chan []float64, 1)
	go func() {
		err := m.feed(c.id, unread, func(b []byte) wire.Message { return &wire.ExecStdin{Data: b} })
		fed <- err
		all, err := once(ctx, m, number)
		if err != nil {
			all = nil
		}
		beside <- all
	}()
	if err := c.wait(ctx); err != nil {
		return nil, err
	}
	select {
	case all := <-beside:
		return all, <-fed
	default: // A command without an answer until then was blocked by it.
	}
	if err := <-fed; err != nil {
		return nil, err
	}
	<-beside
	return []float64{blocked}, nil
}

// besideFlood runs commands while another command writes without end.
func besideFlood(ctx context.Context, m *machine, number int) ([]float64, error) {
	all, err := m.flood(ctx, 1)
	if err != nil {
		return nil, err
	}
	took, err := once(ctx, m, number)
	if err != nil {
		return nil, err
	}
	return took, killAll(ctx, all)
}

// flood starts commands that write without end and waits until each has written.
func (m *machine) flood(ctx context.Context, number int) (all []*command, err error) {
	for range number {
		c, err := m.begin("cat", "/dev/zero")
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	for _, c := range all {
		for c.stdout.Load() == 0 {
			if err := pause(ctx, time.Millisecond); err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}

func killAll(ctx context.Context, all []*command) error {
	for _, c := range all {
		if err := c.kill(ctx); err != nil {
			return err
		}
	}
	return nil
}

// share says how many floods share the link.
type share struct {
	least, most float64   // Parts of the mean.
	beside      []float64 // Commands that ran at the same time, in milliseconds.
	total       float64   // MiB/s.
}

// errHeldUp says that an agent has not answered a command in time.
var errHeldUp = errors.New("a command had no answer in time")

// besideFloods measures many floods and runs commands at the same time.
func besideFloods(ctx context.Context, m *machine, number int) (s share, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*commandTimeout)
	defer cancel()
	all, err := m.flood(ctx, floods)
	if err != nil {
		return s, err
	}
	start, before := time.Now(), counts(all)
	if s.beside, err = m.commandsInTime(ctx, number); err != nil {
		return s, err
	}
	if err := pause(ctx, floodTime-time.Since(start)); err != nil {
		return s, err
	}
	after, took := counts(all), time.Since(start)
	least, most, sum := int64(math.MaxInt64), int64(0), int64(0)
	for i := range after {
		n := after[i] - before[i]
		least, most, sum = min(least, n), max(most, n), sum+n
	}
	mean := float64(sum) / floods
	s.least, s.most, s.total = float64(least)/mean, float64(most)/mean, speed(sum, took)
	return s, killAll(ctx, all)
}

// commandsInTime runs commands, at most for commandTimeout.
func (m *machine) commandsInTime(ctx context.Context, number int) ([]float64, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	all, err := once(ctx, m, number)
	if errors.Is(err, context.DeadlineExceeded) {
		return append(all, blocked), errHeldUp
	}
	return all, err
}

func counts(all []*command) (n []int64) {
	for _, c := range all {
		n = append(n, c.stdout.Load())
	}
	return n
}

// pause waits for a while.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
