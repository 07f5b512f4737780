package client

import (
	"sync"

	"github.com/agentd-go/agentd/wire"
)

// keptState is what a process has that is a client of a kept command.
type keptState struct {
	start   wire.KeptStart // Set before the process has started.
	gap     func(stderr bool, offset uint64)
	sinkGap func(stderr bool, offset uint64) // The caller's, where gap puts them in order.

	wants [2]bool // The outputs that the client reads.

	mu    sync.Mutex
	got   [2]uint64 // How far the outputs have come.
	acked [2]uint64
}

// orderGaps lets the gaps of outputs that a Sink takes wait for what came before them.
func (p *process) orderGaps() {
	if p.kept == nil || p.kept.gap == nil || !p.labelled {
		return
	}
	p.kept.sinkGap = p.kept.gap
	p.kept.gap = func(stderr bool, offset uint64) { p.stdout.push(labelGap(stderr, offset)) }
}

// sinkGap takes the gaps of outputs that a Sink takes; nil if the caller wants none.
func (p *process) sinkGap() func(stderr bool, offset uint64) {
	if p.kept == nil {
		return nil
	}
	return p.kept.sinkGap
}

// begin takes the agent's word on where the outputs begin.
func (k *keptState) begin(s *wire.KeptStart) {
	k.start = *s
	k.mu.Lock()
	defer k.mu.Unlock()
	k.got = [2]uint64{s.Stdout, s.Stderr}
	k.acked = k.got
}

// resume compares the offsets from which the agent goes on with those that have come: a higher
// one is a gap, a lower one an error.
func (k *keptState) resume(s *wire.KeptStart) error {
	for i, offset := range [2]uint64{s.Stdout, s.Stderr} {
		if !k.wants[i] {
			continue
		}
		if err := k.skip(&wire.KeptGap{Stream: wire.KeptStreams(1 << i), Offset: offset}); err != nil {
			return err
		}
	}
	return nil
}

func (k *keptState) offsets() (stdout, stderr uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.got[0], k.got[1]
}

// took counts bytes of an output. It returns a message for the agent if one is due.
func (k *keptState) took(stderr bool, n int) *wire.KeptConsumed {
	k.mu.Lock()
	defer k.mu.Unlock()
	i := index(stderr)
	k.got[i] += uint64(n)
	if k.got[i]-k.acked[i] < ackEvery {
		return nil
	}
	k.acked = k.got
	return &wire.KeptConsumed{Stdout: k.got[0], Stderr: k.got[1]}
}

func index(stderr bool) int {
	if stderr {
		return 1
	}
	return 0
}

// skip moves an output to where it goes on.
func (k *keptState) skip(m *wire.KeptGap) error {
	stderr := m.Stream == wire.KeptStderr
	k.mu.Lock()
	i := index(stderr)
	before := k.got[i]
	k.got[i] = max(before, m.Offset)
	k.mu.Unlock()
	if m.Offset < before {
		return errUnexpected
	}
	if m.Offset > before && k.gap != nil {
		k.gap(stderr, m.Offset)
	}
	return nil
}

// receiveKept takes a message that only clients of kept commands get.
func (p *process) receiveKept(m wire.Message) error {
	if p.kept == nil || !p.isRunning() {
		return errUnexpected
	}
	switch m := m.(type) {
	case *wire.KeptGap:
		return p.kept.skip(m)
	case *wire.KeptInput:
		p.back.taken(m.Offset)
		return nil
	case *wire.KeptDetached:
		p.finish(ErrDetached)
		return nil
	}
	return errUnexpected
}

// acknowledge counts output, and tells the agent now and then.
func (p *process) acknowledge(stderr bool, n int) {
	if p.kept == nil {
		return
	}
	if m := p.kept.took(stderr, n); m != nil {
		p.at.Load().put(m)
	}
}
