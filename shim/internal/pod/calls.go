package pod

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"github.com/containerd/containerd/api/events"
	task "github.com/containerd/containerd/api/runtime/task/v2"
	"github.com/containerd/containerd/api/types"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/agentd-go/agentd/shim/internal/pact"
	"github.com/agentd-go/agentd/shim/internal/plan"
)

// wanted says which streams the guest has to keep for a process.
func wanted(name string) string {
	if name == "" {
		return ""
	}
	return "wanted"
}

func (m *machine) create(ctx context.Context, c *Container) error {
	s := c.Init.Streams
	_, err := m.tasks.Create(ctx, &task.CreateTaskRequest{
		ID: c.ID, Bundle: plan.Dir(c.number), Terminal: s.Terminal,
		Stdin: wanted(s.Stdin), Stdout: wanted(s.Stdout), Stderr: wanted(s.Stderr),
	})
	return InGuest(err)
}

func (m *machine) exec(ctx context.Context, p *Process, spec []byte) error {
	s := p.Streams
	_, err := m.tasks.Exec(ctx, &task.ExecProcessRequest{
		ID: p.Container, ExecID: p.Exec, Terminal: s.Terminal, Spec: &anypb.Any{Value: spec},
		Stdin: wanted(s.Stdin), Stdout: wanted(s.Stdout), Stderr: wanted(s.Stderr),
	})
	return InGuest(err)
}

func (m *machine) start(ctx context.Context, p *Process) error {
	_, err := m.tasks.Start(ctx, &task.StartRequest{ID: p.Container, ExecID: p.Exec})
	return InGuest(err)
}

func (m *machine) delete(ctx context.Context, p *Process) error {
	_, err := m.tasks.Delete(ctx, &task.DeleteRequest{ID: p.Container, ExecID: p.Exec})
	if m.alive() != nil || status.Code(err) == codes.NotFound || lost(ctx, err) {
		return nil //nolint:nilerr // It is gone.
	}
	return InGuest(err)
}

// lost reports whether a call has ended without an answer and not by its caller: the
// program in the machine is gone, and what it owned with it. The machine itself may need
// a moment longer to end.
func lost(ctx context.Context, err error) bool {
	_, answered := status.FromError(err)
	return err != nil && !answered && ctx.Err() == nil
}

// wait returns the end of a process, or of the machine.
func (m *machine) wait(p *Process) (code uint32) {
	r, err := m.tasks.Wait(context.Background(), &task.WaitRequest{ID: p.Container, ExecID: p.Exec})
	if err != nil {
		return killedStatus
	}
	return r.ExitStatus
}

// InGuest says where an error comes from, and that the guest's words are its own. They
// are bounded, and the code is one that there is.
func InGuest(err error) error {
	if err == nil {
		return nil
	}
	s, ok := status.FromError(err)
	if !ok {
		return fmt.Errorf("the pod's machine: %w", err)
	}
	const most = 4096
	text := s.Message()
	code := s.Code()
	if code > codes.Unauthenticated {
		code = codes.Unknown
	}
	return &GuestError{Code: code, Message: text[:min(len(text), most)]}
}

// A GuestError is what the program in the machine answered.
type GuestError struct {
	Code    codes.Code
	Message string
}

func (e *GuestError) Error() string { return e.Message }

// Tasks are the calls of the guest that the pod adds nothing to.
func (p *Pod) Tasks() (task.TTRPCTaskService, error) {
	m, err := p.running()
	if err != nil {
		return nil, err
	}
	return m.tasks, nil
}

// connector opens streams of a process.
func (m *machine) connector(ctx context.Context, p *Process) func(name string) (net.Conn, error) {
	return func(name string) (net.Conn, error) {
		return m.stream(ctx, pact.Stream{Container: p.Container, Exec: p.Exec, Name: name})
	}
}

// stream opens a connection to the port of streams.
func (m *machine) stream(ctx context.Context, want pact.Stream) (conn net.Conn, err error) {
	err = m.guard.within(ctx, "stream "+want.Name, func(ctx context.Context) error {
		conn, err = m.openStream(ctx, want)
		return err
	})
	return conn, err
}

func (m *machine) openStream(limited context.Context, want pact.Stream) (net.Conn, error) {
	conn, err := m.vm.Client().DialContext(limited, "tcp", m.streams)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(limited, func() { _ = conn.Close() })
	if err := askStream(conn, want); err != nil {
		stop()
		return nil, errors.Join(limited.Err(), err, conn.Close())
	}
	if !stop() {
		return nil, fmt.Errorf("open stream %s: %w", want.Name, limited.Err())
	}
	return conn, nil
}

// dialTime is for a connection within the guest.
const dialTime = 10 * time.Second

// dial connects to a port of the pod's loopback.
func (m *machine) dial(port int) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), dialTime)
	defer cancel()
	return m.stream(ctx, pact.Stream{Name: pact.Dial, Address: net.JoinHostPort("127.0.0.1", strconv.Itoa(port))})
}

func askStream(conn net.Conn, want pact.Stream) error {
	line, err := json.Marshal(want)
	if err != nil {
		return err
	}
	if _, err := conn.Write(append(line, '\n')); err != nil {
		return err
	}
	answer, err := readLine(conn)
	if err != nil {
		return fmt.Errorf("open stream %s: %w", want.Name, err)
	}
	if answer != "ok" {
		return fmt.Errorf("open stream %s: the guest says %q", want.Name, answer)
	}
	return nil
}

// readLine reads byte by byte: what follows the line is the stream's.
func readLine(r io.Reader) (string, error) {
	var line []byte
	for b := make([]byte, 1); len(line) < pact.MaxLine; {
		if _, err := io.ReadFull(r, b); err != nil {
			return "", err
		}
		if b[0] == '\n' {
			return string(line), nil
		}
		line = append(line, b[0])
	}
	return "", errors.New("a line without an end")
}

// watch passes the guest's events on until the machine ends, at the pace of eventPause.
func (p *Pod) watch(m *machine) {
	for ; m.alive() == nil; <-time.After(eventPause) {
		var e types.Envelope
		if err := m.rpc.Call(context.Background(), pact.Service, pact.Next, &emptypb.Empty{}, &e); err != nil {
			return
		}
		var oom events.TaskOOM
		if e.GetEvent() == nil || e.GetEvent().UnmarshalTo(&oom) != nil {
			continue
		}
		if _, err := p.Container(oom.ContainerID); err == nil {
			p.cfg.Events.OutOfMemory(oom.ContainerID)
		}
	}
}
