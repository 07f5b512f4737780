package exec

import (
	"io"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/agentd-go/agentd/internal/guest/session"
	"github.com/agentd-go/agentd/internal/ring"
	"github.com/agentd-go/agentd/wire"
)

// ackEvery is how much input a client sends until it is told that it was taken. Clients
// keep what they have not been told about.
const ackEvery = 32 << 10

// A Viewer is the session of one client of a kept command. Its methods do not wait.
type Viewer struct {
	*session.Base
	runner *Runner
	of     *Kept
	ask    *wire.KeptAttach
	output outputHold

	gone     chan struct{} // Closed when the client has left.
	leave    func()
	told     atomic.Uint64 // How much input the client knows to be taken.
	rejected atomic.Bool   // The client knows that another has the input.
}

// Attach begins a session of a kept command.
func (r *Runner) Attach(id uint32, to *Kept, ask *wire.KeptAttach, ending session.Ending) *Viewer {
	v := r.newViewer(id, to, ask, ending)
	v.start()
	return v
}

func (r *Runner) newViewer(id uint32, k *Kept, ask *wire.KeptAttach, ending session.Ending) *Viewer {
	v := &Viewer{
		Base: r.Host.NewBase(id, ending, unsent, nil), runner: r, of: k, ask: ask, gone: make(chan struct{}),
	}
	v.leave = sync.OnceFunc(func() { close(v.gone) })
	k.enter()
	if ask.Write {
		if before := k.takeInput(v); before != nil {
			before.reject()
		}
	}
	return v
}

// start lets the session run.
func (v *Viewer) start() {
	v.Work(v.run, func(why string) {
		v.leave()
		v.finish(&wire.ExecFailed{Kind: wire.FailureOther, Message: "exec session error: " + why})
	})
}

// run is the whole session, up to its last frame.
func (v *Viewer) run() {
	k := v.of
	select {
	case <-k.running:
	case <-k.done:
	case <-v.gone:
	}
	if k.isRunning() {
		v.view()
	}
	select {
	case <-k.done:
	case <-v.gone:
	}
	if v.hasLeft() {
		v.finish(new(wire.KeptDetached))
	} else {
		v.finish(k.end())
	}
}

func (v *Viewer) hasLeft() bool {
	select {
	case <-v.gone:
		return true
	default:
		return false
	}
}

// finish ends the session.
func (v *Viewer) finish(last wire.Message) {
	v.of.leave(v)
	v.End(v, last)
}

// view sends the outputs until they end or the client leaves.
func (v *Viewer) view() {
	k := v.of
	out, err := v.from(0, v.ask.Stdout), v.from(1, v.ask.Stderr)
	k.mu.Lock()
	started := &wire.ExecStarted{PID: k.pid, Kept: &wire.KeptStart{
		Name: k.name, Stdout: out.at, Stderr: err.at, Stdin: k.taken, TTY: k.tty,
	}}
	k.mu.Unlock()
	v.told.Store(started.Kept.Stdin)
	v.WriteNow(started)
	if k.tty && v.ask.Rows > 0 && v.ask.Cols > 0 {
		k.session.repaint(v.ask.Rows, v.ask.Cols)
	}
	var all sync.WaitGroup
	v.pump(&all, out, wire.KeptStdout, wire.TypeExecStdout)
	v.pump(&all, err, wire.KeptStderr, wire.TypeExecStderr)
	all.Wait()
}

// from returns a reader of an output that begins where the client wants.
func (v *Viewer) from(which int, asked *uint64) *reading {
	s := &reading{v: v, ring: v.of.rings[which], stream: wire.KeptStreams(1 << which)}
	start, end := s.ring.Bounds()
	s.at = start
	if asked != nil {
		s.at = min(max(*asked, start), end)
	}
	return s
}

// pump sends an output, if the client wants it.
func (v *Viewer) pump(all *sync.WaitGroup, from *reading, stream wire.KeptStreams, kind wire.Type) {
	if v.ask.Streams&stream == 0 {
		return
	}
	all.Add(1)
	v.Host.Go(func() {
		defer all.Done()
		v.Guard(func() {
			_ = session.NewPump(v.Base, kind, from, &v.Host.Activity.Output).Run() // io.EOF.
		}, func(string) { v.leave() })
	})
}

// Message handles a message of the client.
func (v *Viewer) Message(m wire.Message) {
	switch m := m.(type) {
	case *wire.ExecSignal:
		v.signal(m)
	case *wire.ExecResize:
		if e := v.of.session; e != nil {
			e.resize(m)
		}
	case *wire.KeptConsumed:
		v.consumed(m)
	case *wire.KeptDetach:
		v.end()
	}
}

// end lets the session end: the client does not want more.
func (v *Viewer) end() {
	v.leave()
	v.output.endForGood()
}

// signal passes a signal to the command. Relays send signal 9 for a client that has gone;
// that ends the session only.
func (v *Viewer) signal(m *wire.ExecSignal) {
	switch {
	case m.Kept && v.of.session != nil:
		v.of.session.signal(int(m.Signal), m.Tree)
	case !m.Kept && m.Signal == killSignal:
		v.end()
	}
	v.hold(m.Output)
}

// consumed lets the rings forget what the client has, if the client has the input: the
// others only look on.
func (v *Viewer) consumed(m *wire.KeptConsumed) {
	k := v.of
	k.mu.Lock()
	owner := k.writer == v
	k.mu.Unlock()
	if !owner || k.rings[0] == nil {
		return
	}
	k.rings[0].Consumed(m.Stdout)
	k.rings[1].Consumed(m.Stderr)
}

func (v *Viewer) hold(f wire.OutputFlow) {
	switch f {
	case wire.OutputHold:
		v.output.set()
	case wire.OutputGo:
		v.output.end()
	}
}

// Data takes input for the command.
func (v *Viewer) Data(t wire.Type, data []byte, c session.Charge) {
	if t != wire.TypeExecStdin || v.of.session == nil {
		c.Refund()
		return
	}
	taken, ok := v.of.write(v, data, c)
	switch {
	case !ok:
		c.Refund()
		v.reject()
	case taken-v.told.Load() >= ackEvery, len(data) == 0:
		v.told.Store(taken)
		v.Put(&wire.KeptInput{Offset: taken})
	}
}

// reject tells the client, once, that another has the input.
func (v *Viewer) reject() {
	if v.rejected.Swap(true) {
		return
	}
	number, name := int32(syscall.EBUSY), "EBUSY"
	v.Put(&wire.ExecStdinError{Errno: &number, ErrnoName: &name, Message: "another client has the input"})
}

// Detach ends the session: its client has gone. The command goes on.
func (v *Viewer) Detach() {
	v.Base.Detach()
	v.end()
}

// A reading reads one output of a kept command for one client.
type reading struct {
	v      *Viewer
	ring   *ring.Ring
	stream wire.KeptStreams
	at     uint64
}

// Read waits for some bytes. It tells the client of a gap before them.
func (s *reading) Read(b []byte) (int, error) {
	for {
		s.v.output.wait()
		changed := s.ring.Changed()
		if s.v.hasLeft() {
			return 0, io.EOF
		}
		n, at, err := s.ring.Read(s.at, b)
		if at != s.at {
			s.v.Send(&wire.KeptGap{Stream: s.stream, Offset: at})
		}
		s.at = at + uint64(n)
		if n > 0 || err != nil {
			return n, err
		}
		select {
		case <-changed:
		case <-s.v.gone:
		}
	}
}

// Try reads the bytes that are there, up to a gap.
func (s *reading) Try(b []byte) (int, error) {
	if s.v.hasLeft() || s.v.output.isSet() {
		return 0, nil // Read waits, or says that it is the end.
	}
	n, at, err := s.ring.Read(s.at, b)
	if at != s.at {
		return 0, nil // Read tells of the gap, after what is read already.
	}
	s.at += uint64(n)
	return n, err
}
