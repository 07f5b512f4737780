package exec

import (
	"cmp"
	"sync"
	"syscall"
	"time"

	"github.com/agentd-go/agentd/internal/guest/session"
	"github.com/agentd-go/agentd/internal/guest/sys"
	"github.com/agentd-go/agentd/internal/ring"
	"github.com/agentd-go/agentd/wire"
)

// keptRead is the size of a read of a kept command's output.
const keptRead = 16 << 10

// A Kept command goes on without its client. It is a [Session] without an id, whose
// output goes to rings; clients are [Viewer]s of it.
type Kept struct {
	name    string
	args    []string
	tty     bool
	started time.Time
	age     time.Duration
	session *Session
	rings   [2]*ring.Ring // Of stdout and stderr.

	running chan struct{} // Closed when the command runs.
	done    chan struct{} // Closed when it has ended, and its output is in the rings.

	mu      sync.Mutex
	pid     uint32
	last    wire.Message // Its end; nil before.
	ended   time.Time
	taken   uint64 // Bytes of input.
	writer  *Viewer
	viewers int
	gone    bool // Forgotten: the rings end with the last viewer.
}

// Keep starts a command that is kept, and returns the session of its first client.
func (r *Runner) Keep(id uint32, req *wire.ExecRequest, ending session.Ending) *Viewer {
	k := r.newKept(req)
	v := r.newViewer(id, k, &wire.KeptAttach{Streams: wire.KeptBoth, Write: true, Stdout: new(uint64), Stderr: new(uint64)}, ending)
	err := checkKeep(req.Keep)
	if err == nil {
		err = r.keeps.add(k)
	}
	if err != nil {
		k.finish(failedKeep(err))
		v.start()
		return v
	}
	k.makeRings(r, req.Keep)
	k.session = r.startKept(k, req)
	if req.Keep.NoInput {
		k.session.EndInput()
	}
	v.start()
	return v
}

func failedKeep(err error) *wire.ExecFailed {
	m := &wire.ExecFailed{Kind: wire.FailureOther, Message: "exec session error: " + err.Error()}
	if e, ok := err.(*keepError); ok { //nolint:errorlint // Ours, and bare.
		m.Kind = e.kind
	}
	if m.Kind == wire.FailureOther {
		number, name := int32(syscall.EEXIST), "EEXIST"
		m.Errno, m.ErrnoName = &number, &name
	}
	return m
}

func (r *Runner) newKept(req *wire.ExecRequest) *Kept {
	age := time.Duration(req.Keep.AgeSecs) * time.Second
	return &Kept{
		name: req.Keep.Name, args: listed(req), tty: req.TTY, started: time.Now(), age: cmp.Or(age, usualKeptAge),
		running: make(chan struct{}), done: make(chan struct{}),
	}
}

func (k *Kept) makeRings(r *Runner, ask *wire.Keep) {
	c := ring.Config{
		Memory: int(cmp.Or(ask.Memory, usualKeptMemory)), Disk: usualKeptDisk, Wait: ask.Full == wire.FullWait,
		Storage:      session.Spill,
		MemoryBudget: r.keeps.memory, DiskBudget: r.keeps.disk,
	}
	if ask.Disk != nil {
		c.Disk = int64(*ask.Disk)
	}
	for i := range k.rings {
		k.rings[i] = ring.New(c)
	}
}

// nobody owns the sessions of kept commands: they have no ids.
type nobody struct{}

func (nobody) Forget(uint32, session.Session)  {}
func (nobody) Release(uint32, session.Session) {}

// startKept starts the session of a kept command. It has no client of its own.
func (r *Runner) startKept(k *Kept, req *wire.ExecRequest) *Session {
	h := r.Host
	e := &Session{
		Base:   h.NewBase(0, nobody{}, unsent, &h.Activity.Commands),
		runner: r,
		tty:    req.TTY,
		in:     h.Inbox(session.InputMemory),
		kept:   k,
	}
	e.Base.Detach()
	h.Go(func() { e.guarded(func() { e.run(req) }) })
	return e
}

// runs notes that the command runs.
func (k *Kept) runs(pid uint32) {
	k.mu.Lock()
	k.pid = pid
	k.mu.Unlock()
	close(k.running)
}

// collect moves an output to its ring until it ends.
func (k *Kept) collect(t *tail, of wire.Type, flooded func()) {
	to, buf := k.ringOf(of), make([]byte, keptRead)
	defer to.End()
	for {
		n, err := t.Read(buf)
		if n == len(buf) {
			flooded()
		}
		if to.Append(buf[:n]) {
			t.renew() // The last time of an output does not count while nobody reads it.
		}
		if err != nil {
			return
		}
	}
}

func (k *Kept) ringOf(of wire.Type) *ring.Ring {
	if of == wire.TypeExecStderr {
		return k.rings[1]
	}
	return k.rings[0]
}

// finish notes how the command ended.
func (k *Kept) finish(last wire.Message) {
	k.mu.Lock()
	k.last, k.ended = last, time.Now()
	k.mu.Unlock()
	for _, r := range k.rings {
		if r != nil {
			r.End()
		}
	}
	close(k.done)
}

// finishKept keeps the end of a command for as long as its request says. A command that was
// never started is not kept.
func (r *Runner) finishKept(k *Kept, last wire.Message) {
	k.finish(last)
	if _, failed := last.(*wire.ExecFailed); failed {
		r.keeps.drop(k)
		return
	}
	time.AfterFunc(k.age, func() { r.keeps.drop(k) })
	for _, old := range r.keeps.crowd() {
		r.keeps.drop(old)
	}
}

// isRunning reports whether the command has been started.
func (k *Kept) isRunning() bool {
	select {
	case <-k.running:
		return true
	default:
		return false
	}
}

// end returns the command's last message, nil before its end.
func (k *Kept) end() wire.Message {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.last
}

func (k *Kept) hasEnded() bool { return k.end() != nil }

func (k *Kept) endTime() time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.ended
}

// forget lets the output go when nobody reads it any more.
func (k *Kept) forget() {
	k.mu.Lock()
	k.gone = true
	unread := k.viewers == 0
	k.mu.Unlock()
	if unread {
		k.closeRings()
	}
}

func (k *Kept) closeRings() {
	for _, r := range k.rings {
		if r != nil {
			r.Close()
		}
	}
}

// enter counts a viewer.
func (k *Kept) enter() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.viewers++
}

// leave counts it out, and passes the input on.
func (k *Kept) leave(v *Viewer) {
	k.mu.Lock()
	k.viewers--
	if k.writer == v {
		k.writer = nil
	}
	last := k.gone && k.viewers == 0
	k.mu.Unlock()
	if last {
		k.closeRings()
	}
}

// takeInput gives the input to a viewer, and returns the one that had it.
func (k *Kept) takeInput(v *Viewer) (before *Viewer) {
	k.mu.Lock()
	defer k.mu.Unlock()
	before, k.writer = k.writer, v
	return before
}

// tell sends a message about the input to the client that has it.
func (k *Kept) tell(m wire.Message) {
	k.mu.Lock()
	v := k.writer
	k.mu.Unlock()
	if v != nil {
		v.Put(m)
	}
}

// write takes input of a viewer, and returns how much the command has been given in all.
// ok is false if another viewer has the input.
func (k *Kept) write(v *Viewer, data []byte, c session.Charge) (taken uint64, ok bool) {
	k.mu.Lock()
	ok = k.writer == v
	if ok {
		k.taken += uint64(len(data))
	}
	taken = k.taken
	k.mu.Unlock()
	if ok {
		k.session.Data(wire.TypeExecStdin, data, c)
	}
	return taken, ok
}

// describe returns what a listing says.
func (k *Kept) describe() wire.KeptCommand {
	k.mu.Lock()
	defer k.mu.Unlock()
	d := wire.KeptCommand{
		Name: k.name, Args: k.args, PID: k.pid, TTY: k.tty, StartedNS: nanos(k.started), Stdin: k.taken,
		Clients: uint32(k.viewers), Writer: k.writer != nil,
	}
	if exit, ok := k.last.(*wire.ExecExited); ok {
		d.EndedNS, d.Code, d.Signal = nanos(k.ended), &exit.Code, exit.Signal
	}
	d.Stdout.Start, d.Stdout.End = k.rings[0].Bounds()
	d.Stderr.Start, d.Stderr.End = k.rings[1].Bounds()
	return d
}

func nanos(t time.Time) uint64 { return uint64(max(t.UnixNano(), 0)) }

// repaint gives the terminal a size. A size that it has already is left for another first:
// the kernel tells its programs only of a change, and they repaint when told.
func (e *Session) repaint(rows, cols uint16) {
	e.mu.Lock()
	if e.master != nil {
		_ = sys.Resize(e.master, rows, cols+1) // As in resize.
	}
	e.mu.Unlock()
	e.resize(&wire.ExecResize{Rows: rows, Cols: cols})
}
