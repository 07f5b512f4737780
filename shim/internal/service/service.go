package service

import (
	"context"
	"errors"
	"os"
	"sync"

	"github.com/containerd/containerd/api/events"
	task "github.com/containerd/containerd/api/runtime/task/v2"
	tasktypes "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/agentd-go/agentd/shim/internal/cri"
	"github.com/agentd-go/agentd/shim/internal/plan"
	"github.com/agentd-go/agentd/shim/internal/pod"
	"github.com/agentd-go/agentd/shim/internal/stream"
)

// A Tasks is the task service of a pod.
type Tasks struct {
	pod       *pod.Pod
	namespace string
	events    *Publisher
	version   string

	closing sync.Once
	closed  chan struct{}
}

var _ task.TTRPCTaskService = (*Tasks)(nil)

// NewTasks returns the service. Set the pod before it is served: a pod's events come
// here, so each needs the other.
func NewTasks(namespace, version string, events *Publisher) *Tasks {
	return &Tasks{namespace: namespace, version: version, events: events, closed: make(chan struct{})}
}

// SetPod names the pod that is served.
func (t *Tasks) SetPod(p *pod.Pod) { t.pod = p }

// Closed is closed when the shim has nothing more to do.
func (t *Tasks) Closed() <-chan struct{} { return t.closed }

// Register offers the service under the names of both versions.
func (t *Tasks) Register(s *ttrpc.Server) {
	for _, name := range []string{"containerd.task.v2.Task", "containerd.task.v3.Task"} {
		s.RegisterService(name, &ttrpc.ServiceDesc{Methods: map[string]ttrpc.Method{
			"State": method(t.State), "Create": method(t.Create), "Start": method(t.Start), "Delete": method(t.Delete),
			"Pids": method(t.Pids), "Pause": method(t.Pause), "Resume": method(t.Resume), "Checkpoint": method(t.Checkpoint),
			"Kill": method(t.Kill), "Exec": method(t.Exec), "ResizePty": method(t.ResizePty), "CloseIO": method(t.CloseIO),
			"Update": method(t.Update), "Wait": method(t.Wait), "Stats": method(t.Stats), "Connect": method(t.Connect),
			"Shutdown": method(t.Shutdown),
		}})
	}
	t.registerSandbox(s)
}

// method serves a call, and gives every error a code.
func method[Q, A any](f func(context.Context, *Q) (*A, error)) ttrpc.Method {
	return func(ctx context.Context, unmarshal func(any) error) (any, error) {
		q := new(Q)
		if err := unmarshal(q); err != nil {
			return nil, err
		}
		a, err := f(ctx, q)
		if err != nil {
			return nil, asStatus(err)
		}
		return a, nil
	}
}

func asStatus(err error) error {
	if _, ok := status.FromError(err); ok {
		return err
	}
	code := codes.Unknown
	if guest, ok := errors.AsType[*pod.GuestError](err); ok {
		code = guest.Code
	}
	if _, ok := errors.AsType[*plan.RefusedError](err); ok {
		code = codes.InvalidArgument
	}
	if _, ok := errors.AsType[*cri.RefusedError](err); ok {
		code = codes.InvalidArgument
	}
	for _, known := range []struct {
		err  error
		code codes.Code
	}{{pod.ErrNotFound, codes.NotFound}, {pod.ErrExists, codes.AlreadyExists}, {pod.ErrState, codes.FailedPrecondition}, {pod.ErrEnded, codes.Unavailable}} {
		if errors.Is(err, known.err) {
			code = known.code
		}
	}
	return status.Error(code, err.Error())
}

// pid is what containerd is told as the number of every process of the pod: that of
// the shim, which is in the pod's network namespace and cgroup. The processes
// themselves have none on this host.
func pid() uint32 { return uint32(os.Getpid()) }

// Create makes a container, and boots the machine for the first.
func (t *Tasks) Create(ctx context.Context, r *task.CreateTaskRequest) (*task.CreateTaskResponse, error) {
	if r.Checkpoint != "" {
		return nil, status.Error(codes.Unimplemented, "restore from a checkpoint: not offered for containers in machines")
	}
	_, err := t.pod.Create(ctx, pod.Create{
		ID: r.ID, Bundle: r.Bundle, Rootfs: r.Rootfs,
		Streams: t.streams(r.ID, r.Stdin, r.Stdout, r.Stderr, r.Terminal),
	})
	if err != nil {
		return nil, err
	}
	t.events.Send("/tasks/create", &events.TaskCreate{
		ContainerID: r.ID, Bundle: r.Bundle, Rootfs: r.Rootfs, Pid: pid(),
		IO: &events.TaskIO{Stdin: r.Stdin, Stdout: r.Stdout, Stderr: r.Stderr, Terminal: r.Terminal},
	})
	return &task.CreateTaskResponse{Pid: pid()}, nil
}

// streams leaves out the stderr of a terminal, which has one output.
func (t *Tasks) streams(id, stdin, stdout, stderr string, terminal bool) stream.Spec {
	if terminal {
		stderr = ""
	}
	return stream.Spec{Stdin: stdin, Stdout: stdout, Stderr: stderr, Terminal: terminal, ID: id, Namespace: t.namespace}
}

// Start starts a container, or a process beside its first.
func (t *Tasks) Start(ctx context.Context, r *task.StartRequest) (*task.StartResponse, error) {
	c, p, err := t.pod.Process(r.ID, r.ExecID)
	if err != nil {
		return nil, err
	}
	err = t.pod.Start(ctx, c, p, func() {
		if r.ExecID == "" {
			t.events.Send("/tasks/start", &events.TaskStart{ContainerID: r.ID, Pid: pid()})
		} else {
			t.events.Send("/tasks/exec-started", &events.TaskExecStarted{ContainerID: r.ID, ExecID: r.ExecID, Pid: pid()})
		}
	})
	return &task.StartResponse{Pid: pid()}, err
}

// Exec takes down a process to start beside a container's first.
func (t *Tasks) Exec(ctx context.Context, r *task.ExecProcessRequest) (*emptypb.Empty, error) {
	err := t.pod.Exec(ctx, r.ID, r.ExecID, r.Spec.GetValue(), t.streams(r.ID, r.Stdin, r.Stdout, r.Stderr, r.Terminal))
	if err != nil {
		return nil, err
	}
	t.events.Send("/tasks/exec-added", &events.TaskExecAdded{ContainerID: r.ID, ExecID: r.ExecID})
	return &emptypb.Empty{}, nil
}

// Exited implements [pod.Events].
func (t *Tasks) Exited(p *pod.Process) {
	id := p.Exec
	if id == "" {
		id = p.Container
	}
	code, at := p.Result()
	t.events.Send("/tasks/exit", &events.TaskExit{
		ContainerID: p.Container, ID: id, Pid: pid(), ExitStatus: code, ExitedAt: timestamppb.New(at),
	})
}

// OutOfMemory implements [pod.Events].
func (t *Tasks) OutOfMemory(container string) {
	t.events.Send("/tasks/oom", &events.TaskOOM{ContainerID: container})
}

// State tells of a process.
func (t *Tasks) State(_ context.Context, r *task.StateRequest) (*task.StateResponse, error) {
	c, p, err := t.pod.Process(r.ID, r.ExecID)
	if err != nil {
		return nil, err
	}
	answer := &task.StateResponse{
		ID: r.ID, Bundle: c.Bundle, Pid: pid(), ExecID: r.ExecID, Status: statusOf(p),
		Stdin: p.Streams.Stdin, Stdout: p.Streams.Stdout, Stderr: p.Streams.Stderr, Terminal: p.Streams.Terminal,
	}
	if p.Status() == pod.Stopped {
		code, at := p.Result()
		answer.ExitStatus, answer.ExitedAt = code, timestamppb.New(at)
	}
	return answer, nil
}

func statusOf(p *pod.Process) tasktypes.Status {
	switch {
	case p.Paused():
		return tasktypes.Status_PAUSED
	case p.Status() == pod.Running:
		return tasktypes.Status_RUNNING
	case p.Status() == pod.Stopped:
		return tasktypes.Status_STOPPED
	default:
		return tasktypes.Status_CREATED
	}
}

// Wait waits for the end of a process.
func (t *Tasks) Wait(ctx context.Context, r *task.WaitRequest) (*task.WaitResponse, error) {
	_, p, err := t.pod.Process(r.ID, r.ExecID)
	if err != nil {
		return nil, err
	}
	select {
	case <-p.Done():
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	code, at := p.Result()
	return &task.WaitResponse{ExitStatus: code, ExitedAt: timestamppb.New(at)}, nil
}

// Delete forgets a process, with its container if it was the first.
func (t *Tasks) Delete(ctx context.Context, r *task.DeleteRequest) (*task.DeleteResponse, error) {
	c, p, err := t.pod.Process(r.ID, r.ExecID)
	if err != nil {
		return nil, err
	}
	if err := t.pod.Delete(ctx, c, p); err != nil {
		return nil, err
	}
	code, at := p.Result()
	if r.ExecID == "" {
		t.events.Send("/tasks/delete", &events.TaskDelete{ContainerID: r.ID, Pid: pid(), ExitStatus: code, ExitedAt: timestamppb.New(at)})
	}
	return &task.DeleteResponse{Pid: pid(), ExitStatus: code, ExitedAt: timestamppb.New(at)}, nil
}

// CloseIO ends a process's input, after what has been written to it.
func (t *Tasks) CloseIO(_ context.Context, r *task.CloseIORequest) (*emptypb.Empty, error) {
	_, p, err := t.pod.Process(r.ID, r.ExecID)
	if err != nil {
		return nil, err
	}
	if r.Stdin {
		p.CloseInput()
	}
	return &emptypb.Empty{}, nil
}

// Connect tells the shim's number, and the task's.
func (t *Tasks) Connect(context.Context, *task.ConnectRequest) (*task.ConnectResponse, error) {
	return &task.ConnectResponse{ShimPid: pid(), TaskPid: pid(), Version: t.version}, nil
}

// Shutdown ends the shim, unless the pod has containers: containerd says it after
// each of them.
func (t *Tasks) Shutdown(context.Context, *task.ShutdownRequest) (*emptypb.Empty, error) {
	if t.pod.Empty() && t.pod.Sandbox() == nil {
		t.closing.Do(func() { close(t.closed) })
	}
	return &emptypb.Empty{}, nil
}
