package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/agentd-go/agentd/internal/guest/plan"
	"github.com/agentd-go/agentd/internal/guest/proc"
	"github.com/agentd-go/agentd/internal/guest/session"
	"github.com/agentd-go/agentd/internal/guest/session/exec"
	"github.com/agentd-go/agentd/internal/guest/session/files"
	"github.com/agentd-go/agentd/internal/guest/sys"
	"github.com/agentd-go/agentd/internal/mux"
	"github.com/agentd-go/agentd/internal/procfs"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

const (
	// maxSessions bounds the sessions, with those whose last frame has not left. Each
	// command holds some 30 KiB (two read buffers, four goroutines); together they take
	// half of the memory that the agent may use under load. Files and connections hold
	// less until they move much, then the same.
	maxSessions = 1024

	// maxReplies bounds the bytes of the agent's own short answers that wait for one
	// client: more than a hundred thousand pongs. A client that leaves so many unread has
	// stopped reading, so further answers are dropped.
	maxReplies = 4 << 20

	// maxAllReplies bounds the same for all clients. It leaves room for the first answers
	// of the others when one client has stopped reading.
	maxAllReplies = 2 * maxReplies
)

// An End says why Serve returned without an error.
type End uint8

// The ends.
const (
	Closed      End = iota + 1 // The host closed the port.
	Shutdown                   // The host sent core.shutdown.
	Interrupted                // Interrupt was called.
)

// A Port is the byte link to the host.
type Port interface {
	io.ReadWriteCloser
	SetDeadline(t time.Time) error
	SetReadDeadline(t time.Time) error
	SetWriteDeadline(t time.Time) error
}

// An Agent serves one host over one port.
type Agent struct {
	port    Port
	lasting *lasting // The port of a resumed agent; else nil.
	frames  *frame.Reader
	writer  *mux.Writer
	host    *session.Host
	exec    *exec.Runner
	files   *files.Table
	leases  leases
	second  *secondPort  // nil without a second port.
	parting atomic.Int32 // Released leases whose acknowledgement has not been queued.
	lag     lag
	barrier barrier
	growth  growth
	root    *sys.Root // See Config.Root.
	renews  func(*wire.Renew) error

	interrupted atomic.Bool
	failure     atomic.Pointer[error] // A failure outside the reader that ends Serve.

	mu       sync.Mutex
	sessions map[uint32]session.Session   // By id, until it is free again.
	leaving  map[uint32]session.Session   // The last frame of the id's last session has not left.
	live     map[session.Session]struct{} // Running, or the last frame has not left.
	ended    recent

	// Used by the loop only:
	replies    map[int]*mux.Outbox // The agent's own answers, by the client's slot.
	unheard    *mux.Allowance      // The bytes that wait in all of them.
	muffled    bool                // An answer was dropped, and that was logged.
	complaints int                 // Lines about frames on the console.
	speaks     wire.Generation     // The generation for a host that has sent core.bootstrap; else 0.
}

// A Config says what an agent serves.
type Config struct {
	Generation wire.Generation
	Procs      *proc.Table   // nil if no command can run.
	Commands   plan.Commands // Defaults of requests.
	Limits     []proc.Limit  // For every command, before the limits of its request.
	Root       *sys.Root     // The mount of the disk that the root is on and can grow; nil without one.
	Stored     bool          // The host gets the credit for input back when that has been stored.
	// Renew carries out WorkloadThaw.Renew, while no command runs; nil if that cannot be.
	Renew func(*wire.Renew) error
}

// Open begins a link. Nothing is read or written before the first call.
func Open(port Port) *Agent {
	w := mux.NewWriter(port, 0)
	return &Agent{
		port:     port,
		frames:   frame.NewReader(port),
		writer:   w,
		sessions: map[uint32]session.Session{},
		leaving:  map[uint32]session.Session{},
		live:     map[session.Session]struct{}{},
		replies:  map[int]*mux.Outbox{},
		unheard:  mux.NewAllowance(maxAllReplies),
	}
}

// Resume takes over a link after its handshake, with the bytes that have been read from it
// already. The agent outlives its host: it waits for the next one to connect.
func Resume(port Port, unread []byte) *Agent {
	l := &lasting{Port: port}
	a := Open(l)
	a.lasting = l
	a.frames = frame.NewReaderFrom(unread, l)
	return a
}

// Unread returns the bytes that were read from the link and not handled, for Resume.
func (a *Agent) Unread() []byte { return a.frames.Buffered() }

// Serve sends core.ready and serves the host until it asks for the end or closes the
// port. A resumed agent does not return when the port is closed; it waits for the next
// host.
func (a *Agent) Serve(c Config, ready *wire.Ready) (End, error) {
	a.host = &session.Host{
		Generation: c.Generation,
		Writer:     a.writer,
		Pool:       session.NewPool(),
		Input:      mux.NewBudget(session.InputBudget),
		Spares:     frame.NewSpares(),
	}
	a.exec = &exec.Runner{Host: a.host, Procs: c.Procs, Defaults: c.Commands, Limits: c.Limits}
	a.files = files.NewTable()
	a.root, a.renews = c.Root, c.Renew
	a.frames.Spares = a.host.Spares
	go a.write()
	if c.Generation >= wire.BulkSince {
		ready.RelayLease = &wire.RelayLease{MaxFormat: 1}
	}
	ready.Extensions = announced(c.Procs)
	a.openSecond(ready)
	a.openCredit(ready, c.Stored)
	ready.ReadyTimeNS = uint64(sys.BootTime())
	// Nothing may follow ready before the host has sent something: reference hosts
	// discard bytes that arrive in the same burst (protocol section 1).
	b, err := wire.AppendFrame(nil, c.Generation, 0, ready)
	if err == nil {
		err = a.answers(0).Send(b)
	}
	if err != nil {
		return 0, fmt.Errorf("send core.ready: %w", err)
	}
	defer a.beginAfterReady()()
	return a.loop()
}

// beginAfterReady begins afterReady and returns what ends it. That waits for a heartbeat
// that is being written, because its open file would keep the share mounted; but not for
// long, because the share's server may have gone.
func (a *Agent) beginAfterReady() (end func()) {
	const timeout = time.Second
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		a.afterReady(ctx)
	}()
	return func() {
		stop()
		select {
		case <-ended:
		case <-time.After(timeout):
		}
	}
}

// write sends queued frames until the port fails. If the host has gone (EPIPE) the reader
// finds that, after the host's last frames. Any other failure ends Serve: the agent could
// not answer any more.
func (a *Agent) write() {
	if err := a.writer.Run(); err != nil && !errors.Is(err, syscall.EPIPE) {
		a.lose(err)
	}
}

// afterReady does the work that must not delay core.ready.
func (a *Agent) afterReady(ctx context.Context) {
	sent, cancel := context.WithTimeout(ctx, greetingDeadline)
	_ = a.writer.Drain(sent) // A host that does not read gets heartbeats nevertheless.
	cancel()
	_ = procfs.ReleaseProgram() // Without it the agent has the same memory as during the boot.
	if a.exec.Procs != nil {
		a.exec.Procs.Prepare()
	}
	beat(ctx.Done(), &a.host.Activity, memoryReturner{pool: a.host.Pool, spares: a.host.Spares}, &a.barrier.still)
}

func (a *Agent) loop() (End, error) {
	for {
		f, err := a.frames.Next()
		switch {
		case a.interrupted.Load():
			return Interrupted, nil
		case a.failure.Load() != nil:
			return 0, *a.failure.Load()
		case err != nil && a.lasting != nil:
			a.lost(err)
			continue
		case errors.Is(err, io.EOF):
			return Closed, nil
		case err != nil:
			return 0, fmt.Errorf("read port: %w", err)
		}
		if a.guarded(f) == Shutdown {
			return Shutdown, nil
		}
	}
}

// guarded handles a frame. A panic is a fault of the agent: it ends the handling of this
// frame, and not the machine.
func (a *Agent) guarded(f frame.Frame) (end End) {
	defer func() {
		if fault := recover(); fault != nil {
			sys.Logf("frame on id %d: %v\n%s", f.ID, fault, debug.Stack())
			a.reply(f.ID, &wire.ProtocolError{Kind: wire.ErrorMalformed, Message: fmt.Sprintf("fault in the agent: %v", fault)})
		}
	}()
	return a.handle(f)
}

// Finish ends the commands with SIGTERM and waits for them for grace at most. The caller
// kills the rest. Their output until then is sent, if the host reads it.
func (a *Agent) Finish(grace time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	const terminate = 15 // SIGTERM.
	a.exec.Procs.Close()
	a.exec.Procs.Signal(terminate)
	commands := a.commands()
	a.files.Close() // A disk with a file open for writing cannot be left clean.
	if err := a.exec.Procs.Wait(ctx); err != nil {
		return
	}
	if err := a.settle(ctx, commands); err != nil {
		sys.Logf("output was left unsent: %v", err)
	}
}

// settle waits until every command has sent its last frame.
func (a *Agent) settle(ctx context.Context, commands []session.Session) error {
	for _, s := range commands {
		select {
		case <-s.Done():
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return a.writer.Drain(ctx)
}

// commands returns the running commands and detaches all other sessions: files and
// connections have nothing to send at the machine's end.
func (a *Agent) commands() (all []session.Session) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for s := range a.live {
		if isCommand(s) {
			s.Message(&wire.ExecSignal{Output: wire.OutputGo}) // Let a command that is held send its last output.
			all = append(all, s)
		} else {
			s.Detach()
		}
	}
	return all
}
