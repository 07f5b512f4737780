package agent_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/agentd-go/agentd/internal/guest/agent"
	"github.com/agentd-go/agentd/internal/guest/plan"
	"github.com/agentd-go/agentd/internal/guest/proc"
	"github.com/agentd-go/agentd/internal/guest/sys"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

const (
	// patience is how long anything may take before a test gives it up.
	patience = 20 * time.Second
	// speaks is the generation of the test's host unless a test says otherwise.
	speaks wire.Generation = 7
)

// served is how an agent's loop ended.
type served struct {
	end agent.End
	err error
}

// A host is the other side of an agent's port: it sends, and keeps the frames that arrive.
type host struct {
	t     *testing.T
	port  *os.File
	agent *agent.Agent
	end   chan served

	mu     sync.Mutex
	more   *sync.Cond
	frames []received
	closed bool
	held   bool // Nothing is read from the port.
}

// received is one frame of the agent.
type received struct {
	frame.Frame
	wire.Envelope
	Message wire.Message
	Record  wire.Record // In place of both.
	Lease   wire.Lease  // So too.
}

// link is a port to the agent and the host's end of it.
func link(t *testing.T) (port, ours *os.File) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fds[0]), "port"), os.NewFile(uintptr(fds[1]), "host")
}

// config is what a test's machine differs in.
type config struct {
	generation wire.Generation
	commands   plan.Commands
	limits     []proc.Limit
	restricted bool
	group      string // Of commands.
	stored     bool   // Credit comes back when input is stored.
}

// newHost starts an agent and takes its core.ready. The agent runs until the
// host closes the port, at the latest with the test.
func newHost(t *testing.T, c config) *host {
	t.Helper()
	port, ours := link(t)
	h := attach(t, ours)
	h.serve(agent.Open(port), port, c)
	if _, ok := h.next(0).Message.(*wire.Ready); !ok {
		t.Fatal("the first frame is not core.ready")
	}
	return h
}

// attach begins to read the frames of an agent.
func attach(t *testing.T, ours *os.File) *host {
	t.Helper()
	h := &host{t: t, port: ours, end: make(chan served, 1)}
	h.more = sync.NewCond(&h.mu)
	go h.read()
	t.Cleanup(func() { _ = ours.Close() })
	return h
}

// serve runs the agent's loop.
func (h *host) serve(a *agent.Agent, port *os.File, c config) {
	h.t.Helper()
	sys.Outlive()
	procs, err := proc.New(proc.Options{Restricted: c.restricted, Group: c.group})
	if err != nil {
		h.t.Fatal(err)
	}
	if c.generation == 0 {
		c.generation = speaks
	}
	if c.commands.Env == nil {
		c.commands.Env = []string{"HOME=/", "TERM=linux", "PATH=/bin"}
	}
	if c.commands.Cwd == "" {
		c.commands.Cwd = "/"
	}
	h.agent = a
	go func() {
		var s served
		s.end, s.err = a.Serve(
			agent.Config{Generation: c.generation, Procs: procs, Commands: c.commands, Limits: c.limits, Stored: c.stored},
			&wire.Ready{BootTimeNS: 1, InitTimeNS: 2, AgentVersion: "test"},
		)
		h.end <- s
	}()
	h.t.Cleanup(func() { _ = port.Close() })
}

// read keeps every frame until the port ends.
func (h *host) read() {
	r := frame.NewReader(h.port)
	for {
		h.mu.Lock()
		for h.held {
			h.more.Wait()
		}
		h.mu.Unlock()
		f, err := r.Next()
		h.mu.Lock()
		if err != nil {
			h.closed = true
			h.more.Broadcast()
			h.mu.Unlock()
			return
		}
		h.frames = append(h.frames, h.open(f))
		h.more.Broadcast()
		h.mu.Unlock()
	}
}

// open decodes a frame of the agent and holds it against the index: the flags
// are exact, and the agent says nothing that its host does not know.
func (h *host) open(f frame.Frame) received {
	if f.Flags == frame.Bulk {
		r, err := wire.DecodeRecord(f.Body)
		if err != nil {
			h.t.Errorf("id %d: %v", f.ID, err)
		}
		return received{Frame: f, Record: r}
	}
	if wire.IsLease(f) {
		l, err := wire.DecodeLease(f.Body)
		if err != nil {
			h.t.Error(err)
		}
		return received{Frame: f, Lease: l}
	}
	e, err := wire.DecodeEnvelope(f.Body)
	if err != nil {
		h.t.Errorf("id %d: %v", f.ID, err)
		return received{Frame: f}
	}
	info, known := wire.Lookup(e.Type)
	if !known || info.Direction&wire.GuestToHost == 0 || info.Flags != f.Flags {
		h.t.Errorf("id %d: %s with flags %v", f.ID, e.Type, f.Flags)
	}
	m, err := wire.Decode(e)
	if err != nil {
		h.t.Errorf("id %d: %v", f.ID, err)
	}
	return received{Frame: f, Envelope: e, Message: m}
}

// hold stops the reading from the port after at most one more frame, or lets it
// go on.
func (h *host) hold(held bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.held = held
	h.more.Broadcast()
}

// take returns the oldest frame that is kept and that wanted says yes to.
func (h *host) take(what string, wanted func(received) bool) received {
	h.t.Helper()
	late := false
	timer := time.AfterFunc(patience, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		late = true
		h.more.Broadcast()
	})
	defer timer.Stop()
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		for i, f := range h.frames {
			if wanted(f) {
				h.frames = append(h.frames[:i], h.frames[i+1:]...)
				return f
			}
		}
		if late || h.closed {
			h.t.Fatalf("no %s: port closed %t, %d other frames", what, h.closed, len(h.frames))
		}
		h.more.Wait()
	}
}

// next is the oldest frame of an id.
func (h *host) next(id uint32) received {
	h.t.Helper()
	return h.take("frame", func(f received) bool { return f.ID == id })
}

// kept is how many frames of the ids in [from, to) have come and were not taken.
func (h *host) kept(from, to uint32) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, f := range h.frames {
		if f.ID >= from && f.ID < to {
			n++
		}
	}
	return n
}

// bytesOf is a message as a frame.
func bytesOf(t *testing.T, v wire.Generation, id uint32, m wire.Message) []byte {
	t.Helper()
	b, err := wire.AppendFrame(nil, v, id, m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (h *host) send(id uint32, m wire.Message) {
	h.t.Helper()
	h.write(bytesOf(h.t, speaks, id, m))
}

// write sends bytes as they are; the agent must take them in time.
func (h *host) write(b []byte) {
	h.t.Helper()
	if err := h.port.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		h.t.Fatal(err)
	}
	if _, err := h.port.Write(b); err != nil {
		h.t.Fatalf("the agent does not read: %v", err)
	}
}

// ping measures how long the agent takes to answer.
func (h *host) ping() time.Duration {
	h.t.Helper()
	const id = 0x00ffffff // No test has a session here.
	start := time.Now()
	h.send(id, &wire.Ping{})
	if _, ok := h.next(id).Message.(*wire.Pong); !ok {
		h.t.Fatal("a ping was answered with something else")
	}
	return time.Since(start)
}

// wait waits for the end of the agent's loop.
func (h *host) wait() served {
	h.t.Helper()
	select {
	case s := <-h.end:
		return s
	case <-time.After(patience):
		h.t.Fatal("the loop did not end")
		return served{}
	}
}

// result is everything that one command said.
type result struct {
	pid            uint32
	stdout, stderr []byte
	stdinErrors    []*wire.ExecStdinError
	code           int32
	failed         *wire.ExecFailed
}

// collect takes the frames of a command up to the terminal one.
func (h *host) collect(id uint32) (r result) {
	h.t.Helper()
	for first := true; ; first = false {
		f := h.next(id)
		_, isStarted := f.Message.(*wire.ExecStarted)
		_, isFailed := f.Message.(*wire.ExecFailed)
		if first != (isStarted || isFailed) {
			h.t.Fatalf("id %d: %s at the wrong place", id, f.Type)
		}
		switch m := f.Message.(type) {
		case *wire.ExecStarted:
			r.pid = m.PID
		case *wire.ExecStdout:
			r.stdout = append(r.stdout, m.Data...)
		case *wire.ExecStderr:
			r.stderr = append(r.stderr, m.Data...)
		case *wire.ExecStdinError:
			r.stdinErrors = append(r.stdinErrors, m)
		case *wire.ExecExited:
			r.code = m.Code
			return r
		case *wire.ExecFailed:
			r.failed = m
			return r
		default:
			h.t.Fatalf("id %d: %s among a command's frames", id, f.Type)
		}
	}
}

// run runs a request to its end.
func (h *host) run(req *wire.ExecRequest) result {
	h.t.Helper()
	const id = 77
	if req.Rows == 0 {
		req.Rows, req.Cols = 24, 80
	}
	h.send(id, req)
	return h.collect(id)
}

// say is what a shell script wrote; it must end with code 0.
func (h *host) say(script string) string {
	h.t.Helper()
	r := h.run(sh(script))
	if r.failed != nil || r.code != 0 {
		h.t.Fatalf("%q: %+v, code %d: %s", script, r.failed, r.code, r.stderr)
	}
	return string(r.stdout)
}

func sh(script string) *wire.ExecRequest {
	return &wire.ExecRequest{Cmd: "/bin/sh", Args: []string{"-c", script}, Rows: 24, Cols: 80}
}

func tty(script string) *wire.ExecRequest {
	req := sh(script)
	req.TTY = true
	return req
}

// input sends data to a command in pieces of a size, then its end.
func (h *host) input(id uint32, data []byte, size int) {
	h.t.Helper()
	for r := bytes.NewReader(data); ; {
		piece := make([]byte, size)
		n, err := r.Read(piece)
		if errors.Is(err, io.EOF) {
			break
		}
		h.send(id, &wire.ExecStdin{Data: piece[:n]})
	}
	h.send(id, &wire.ExecStdin{Data: []byte{}})
}

// serveBare runs the loop for a test that starts no command.
func (h *host) serveBare(a *agent.Agent, port *os.File, g wire.Generation) {
	h.t.Helper()
	h.agent = a
	go func() {
		var s served
		s.end, s.err = a.Serve(agent.Config{Generation: g}, &wire.Ready{BootTimeNS: 1, InitTimeNS: 2, AgentVersion: "test"})
		h.end <- s
	}()
	h.t.Cleanup(func() { _ = port.Close() })
}

// closeWrite ends what the host sends, and leaves it listening.
func closeWrite(f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = syscall.Shutdown(int(fd), syscall.SHUT_WR) })
	return errors.Join(err, failed)
}

// tail is what a command says from now on to its end, and the code.
func (h *host) tail(id uint32) string {
	h.t.Helper()
	var all []byte
	for {
		switch m := h.next(id).Message.(type) {
		case *wire.ExecStdout:
			all = append(all, m.Data...)
		case *wire.ExecExited:
			return string(all) + " exit " + strconv.Itoa(int(m.Code))
		}
	}
}
