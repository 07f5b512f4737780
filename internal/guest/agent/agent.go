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
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

const (
	// maxSessions bounds the sessions that run or whose last frame has not left:
	// each command holds some 30 KiB (two read buffers, four goroutines), all
	// together half of what the agent may use under load. Files and connections
	// hold less until they move much, then the same.
	maxSessions = 1024

	// maxReplies is what may wait of the agent's own short answers to one client: more
	// than a hundred thousand pongs. One that has left so many unread has stopped
	// listening; more are dropped.
	maxReplies = 4 << 20

	// maxAllReplies is the same for all clients. Two that have stopped listening leave
	// every other one the room for its first.
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
	lasting *lasting // The port, if it outlives its host; else nil.
	frames  *frame.Reader
	writer  *mux.Writer
	host    *session.Host
	exec    *exec.Runner
	files   *files.Table
	leases  leases
	second  *secondPort  // nil without one.
	parting atomic.Int32 // Ends of leases that wait to be acknowledged.
	lag     lag
	barrier barrier
	growth  growth
	root    *sys.Root // See Config.Root.

	interrupted atomic.Bool
	failure     atomic.Pointer[error] // Why the link is of no use any more, though its port is.

	mu       sync.Mutex
	sessions map[uint32]session.Session   // By id, until it is free again.
	leaving  map[uint32]session.Session   // The last frame of the id's last session has not left.
	live     map[session.Session]struct{} // Those that run or whose last frame has not left.

	// Of the loop alone:
	replies    map[int]*mux.Outbox // The agent's own answers, by the client's slot.
	unheard    *mux.Allowance      // What waits of all of them.
	muffled    bool                // Answers were dropped, which was logged once.
	complaints int                 // Lines about frames that the console was given.
	speaks     wire.Generation     // What a host that has sent core.bootstrap is spoken to in; else 0.
}

// A Config says what an agent serves.
type Config struct {
	Generation wire.Generation
	Procs      *proc.Table   // nil where no command runs.
	Commands   plan.Commands // Defaults of requests.
	Limits     []proc.Limit  // Every command's, before those of its request.
	Root       *sys.Root     // The mount of the disk that the root is on and can grow; nil without one.
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

// Resume takes over a link behind its handshake, with what has been read of it
// already. The agent outlives its host: it waits for the next one to connect.
func Resume(port Port, unread []byte) *Agent {
	l := &lasting{Port: port}
	a := Open(l)
	a.lasting = l
	a.frames = frame.NewReaderFrom(unread, l)
	return a
}

// Unread returns what has been read of the link and not been acted on, for Resume.
func (a *Agent) Unread() []byte { return a.frames.Buffered() }

// Serve sends core.ready and serves the host until it closes the port (a
// resumed agent waits for the next one then) or asks for the end.
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
	a.root = c.Root
	a.frames.Spares = a.host.Spares
	go a.write()
	if c.Generation >= wire.BulkSince {
		ready.RelayLease = &wire.RelayLease{MaxFormat: 1}
	}
	a.openSecond(ready)
	a.openCredit(ready)
	ready.ReadyTimeNS = uint64(sys.BootTime())
	// Nothing may follow ready before the host has spoken: reference hosts throw
	// away what arrives in the same burst (protocol section 1).
	b, err := wire.AppendFrame(nil, c.Generation, 0, ready)
	if err == nil {
		err = a.answers(0).Send(b)
	}
	if err != nil {
		return 0, fmt.Errorf("send core.ready: %w", err)
	}
	stop := make(chan struct{})
	defer close(stop)
	go a.behindReady(stop)
	return a.loop()
}

// write sends what is queued until the port fails. That the host has gone is for the
// reading to find, behind what it said last; any other failure would leave an agent
// that hears and cannot answer.
func (a *Agent) write() {
	if err := a.writer.Run(); err != nil && !errors.Is(err, syscall.EPIPE) {
		a.lose(err)
	}
}

// behindReady is what whoever waits for core.ready shall not wait for.
func (a *Agent) behindReady(stop <-chan struct{}) {
	ctx, cancel := context.WithTimeout(context.Background(), greetingDeadline)
	_ = a.writer.Drain(ctx) // A host that takes nothing gets heartbeats all the same.
	cancel()
	if a.exec.Procs != nil {
		a.exec.Procs.Prepare()
	}
	beat(stop, &a.host.Activity, a.host.Pool, &a.barrier.still)
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

// guarded handles a frame; a fault of ours in that is the frame's end and not
// the machine's.
func (a *Agent) guarded(f frame.Frame) (end End) {
	defer func() {
		if fault := recover(); fault != nil {
			sys.Logf("frame on id %d: %v\n%s", f.ID, fault, debug.Stack())
			a.reply(f.ID, &wire.ProtocolError{Kind: wire.ErrorMalformed, Message: fmt.Sprintf("fault in the agent: %v", fault)})
		}
	}()
	return a.handle(f)
}

// Finish ends the commands: SIGTERM now, and when grace has passed whatever is
// left is the caller's. What they said until then is sent, if the host takes it.
func (a *Agent) Finish(grace time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	const terminate = 15 // SIGTERM.
	a.exec.Procs.Close()
	a.exec.Procs.Signal(terminate)
	commands := a.commands()
	a.files.Close() // A file that is open for writing keeps its disk from being left clean.
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

// commands returns the commands that run; all other sessions are let go: a file
// or a connection that nobody may wait for has no last words.
func (a *Agent) commands() (all []session.Session) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for s := range a.live {
		if e, command := s.(*exec.Session); command {
			e.Message(&wire.ExecSignal{Output: wire.OutputGo}) // It may wait to say its last words.
			all = append(all, s)
		} else {
			s.Detach()
		}
	}
	return all
}
