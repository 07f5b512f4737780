package guest

import (
	"context"
	"fmt"
	"os"
	"sync"

	"github.com/containerd/containerd/api/events"
	task "github.com/containerd/containerd/api/runtime/task/v2"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/agentd-go/agentd/shim/internal/pact"
)

// maxEvents bounds the events that wait for the shim. It asks for the next at once;
// a pod that runs out of memory more often than that says the same again.
const maxEvents = 64

// A Server owns the containers of a pod. It is containerd's task service.
type Server struct {
	mu         sync.Mutex
	containers map[string]*container
	events     chan *types.Envelope
	holder     int // The process that holds the pod's namespaces; 0 is none.
}

var _ task.TTRPCTaskService = (*Server)(nil)

func newServer() *Server {
	return &Server{containers: map[string]*container{}, events: make(chan *types.Envelope, maxEvents)}
}

// extra is what containerd's service lacks.
func (s *Server) extra() *ttrpc.ServiceDesc {
	next := func(ctx context.Context, unmarshal func(any) error) (any, error) {
		if err := unmarshal(&emptypb.Empty{}); err != nil {
			return nil, err
		}
		select {
		case e := <-s.events:
			return e, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return &ttrpc.ServiceDesc{Methods: map[string]ttrpc.Method{pact.Next: next}}
}

func (s *Server) outOfMemory(id string) {
	event, err := anypb.New(&events.TaskOOM{ContainerID: id})
	if err != nil {
		return // A message without fields that could fail.
	}
	select {
	case s.events <- &types.Envelope{Timestamp: timestamppb.Now(), Topic: "/tasks/oom", Event: event}:
	default:
	}
}

func (s *Server) container(id string) (*container, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.containers[id]
	if c == nil {
		return nil, status.Errorf(codes.NotFound, "container %q: not found", id)
	}
	return c, nil
}

// process finds a container's init, or a process beside it by exec.
func (s *Server) process(id, exec string) (*container, *process, error) {
	c, err := s.container(id)
	if err != nil {
		return nil, nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if exec == "" {
		return c, c.init, nil
	}
	if p := c.execs[exec]; p != nil {
		return c, p, nil
	}
	return nil, nil, status.Errorf(codes.NotFound, "process %q of container %q: not found", exec, id)
}

// Create makes a container with its first process, which waits for Start.
func (s *Server) Create(_ context.Context, r *task.CreateTaskRequest) (*task.CreateTaskResponse, error) {
	s.mu.Lock()
	if s.containers[r.ID] != nil {
		s.mu.Unlock()
		return nil, status.Errorf(codes.AlreadyExists, "container %q: already exists", r.ID)
	}
	c := &container{id: r.ID, execs: map[string]*process{}, init: newProcess(r.Stdin != "", r.Stdout != "", r.Stderr != "", r.Terminal)}
	s.containers[r.ID] = c
	s.mu.Unlock()
	if err := s.create(c, r.Bundle); err != nil {
		s.mu.Lock()
		delete(s.containers, r.ID)
		s.mu.Unlock()
		return nil, status.Error(codes.Unknown, err.Error())
	}
	return &task.CreateTaskResponse{Pid: c.init.pid()}, nil
}

func (s *Server) create(c *container, bundle string) error {
	spec, err := readSpec(bundle)
	if err != nil {
		return err
	}
	if err := s.resolveNamespaces(spec); err != nil {
		return err
	}
	if err := c.create(spec); err != nil {
		c.init.closeStreams()
		return err
	}
	go c.watchMemory(func() { s.outOfMemory(c.id) })
	return nil
}

// Start lets a created container's process run, or starts one beside it.
func (s *Server) Start(_ context.Context, r *task.StartRequest) (*task.StartResponse, error) {
	c, p, err := s.process(r.ID, r.ExecID)
	if err != nil {
		return nil, err
	}
	if r.ExecID == "" {
		err = c.start()
	} else {
		err = c.exec(p)
	}
	if err != nil {
		return nil, asStatus(err)
	}
	return &task.StartResponse{Pid: p.pid()}, nil
}

// Exec takes down a process to start beside a container's first one.
func (s *Server) Exec(_ context.Context, r *task.ExecProcessRequest) (*emptypb.Empty, error) {
	c, err := s.container(r.ID)
	if err != nil {
		return nil, err
	}
	p := newProcess(r.Stdin != "", r.Stdout != "", r.Stderr != "", r.Terminal)
	if p.spec, err = readProcess(r.Spec.GetValue()); err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "process %q: %v", r.ExecID, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.execs[r.ExecID] != nil {
		return nil, status.Errorf(codes.AlreadyExists, "process %q of container %q: already exists", r.ExecID, r.ID)
	}
	c.execs[r.ExecID] = p
	return &emptypb.Empty{}, p.open()
}

// Delete forgets a process that has ended, with its container if it was the first.
func (s *Server) Delete(_ context.Context, r *task.DeleteRequest) (*task.DeleteResponse, error) {
	c, p, err := s.process(r.ID, r.ExecID)
	if err != nil {
		return nil, err
	}
	if r.ExecID == "" {
		err = c.destroy()
	} else if p.isRunning() {
		err = status.Errorf(codes.FailedPrecondition, "process %q is running", r.ExecID)
	}
	if err != nil {
		return nil, asStatus(err)
	}
	p.closeStreams()
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.ExecID == "" {
		delete(s.containers, r.ID)
	} else {
		delete(c.execs, r.ExecID)
	}
	code, at := p.result()
	return &task.DeleteResponse{Pid: p.pid(), ExitStatus: code, ExitedAt: timestamppb.New(at)}, nil
}

// Wait waits for the end of a process.
func (s *Server) Wait(ctx context.Context, r *task.WaitRequest) (*task.WaitResponse, error) {
	_, p, err := s.process(r.ID, r.ExecID)
	if err != nil {
		return nil, err
	}
	select {
	case <-p.ended:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	code, at := p.result()
	return &task.WaitResponse{ExitStatus: code, ExitedAt: timestamppb.New(at)}, nil
}

// asStatus gives an error of the library a code, if it has none.
func asStatus(err error) error {
	if _, ok := status.FromError(err); ok {
		return err
	}
	return status.Error(codes.Unknown, err.Error())
}

// done answers a call that has no result.
func done(err error) (*emptypb.Empty, error) {
	if err != nil {
		return nil, asStatus(err)
	}
	return &emptypb.Empty{}, nil
}

func marshal(m proto.Message) (*anypb.Any, error) {
	b, err := proto.Marshal(m)
	return &anypb.Any{TypeUrl: string(m.ProtoReflect().Descriptor().FullName()), Value: b}, err
}

// resolveNamespaces replaces the names of other containers by their namespaces.
func (s *Server) resolveNamespaces(spec *ociSpec) error {
	for i, ns := range spec.Linux.Namespaces {
		if ns.Path == pact.OfPod {
			spec.Linux.Namespaces[i].Path = fmt.Sprintf("/proc/%d/ns/%s", s.holder, namespaceFile(ns.Type))
			continue
		}
		id, ok := cutContainer(ns.Path)
		if !ok {
			continue
		}
		c, err := s.container(id)
		if err != nil {
			return fmt.Errorf("namespace %s of container %s: %w", ns.Type, id, err)
		}
		path := fmt.Sprintf("/proc/%d/ns/%s", c.init.pid(), namespaceFile(ns.Type))
		if _, err := os.Stat(path); err != nil {
			return fmt.Errorf("namespace %s of container %s: %w", ns.Type, id, err)
		}
		spec.Linux.Namespaces[i].Path = path
	}
	return nil
}
