package guest

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path"

	"github.com/containerd/cgroups/v3/cgroup2"
	task "github.com/containerd/containerd/api/runtime/task/v2"
	tasktypes "github.com/containerd/containerd/api/types/task"
	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/agentd-go/agentd/shim/internal/pact"
)

// Kill sends a signal to a process, or to all of a container.
func (s *Server) Kill(_ context.Context, r *task.KillRequest) (*emptypb.Empty, error) {
	c, p, err := s.process(r.ID, r.ExecID)
	if err != nil {
		return nil, err
	}
	if r.All && r.ExecID == "" {
		err = c.signalAll(unix.Signal(r.Signal))
	} else {
		err = p.signal(unix.Signal(r.Signal))
	}
	if errors.Is(err, os.ErrProcessDone) || errors.Is(err, unix.ESRCH) || errors.Is(err, libcontainer.ErrNotRunning) {
		return nil, status.Error(codes.NotFound, "process already finished: not found")
	}
	return &emptypb.Empty{}, err
}

// Pids lists the processes of a container, by the guest's numbers.
func (s *Server) Pids(_ context.Context, r *task.PidsRequest) (*task.PidsResponse, error) {
	c, err := s.container(r.ID)
	if err != nil {
		return nil, err
	}
	pids, err := c.box.Processes()
	if err != nil {
		return nil, asStatus(err)
	}
	answer := &task.PidsResponse{}
	for _, pid := range pids {
		answer.Processes = append(answer.Processes, &tasktypes.ProcessInfo{Pid: uint32(pid)})
	}
	return answer, nil
}

// Pause freezes a container's processes.
func (s *Server) Pause(_ context.Context, r *task.PauseRequest) (*emptypb.Empty, error) {
	c, err := s.container(r.ID)
	if err != nil {
		return nil, err
	}
	return done(c.box.Pause())
}

// Resume lets them go on.
func (s *Server) Resume(_ context.Context, r *task.ResumeRequest) (*emptypb.Empty, error) {
	c, err := s.container(r.ID)
	if err != nil {
		return nil, err
	}
	return done(c.box.Resume())
}

// Checkpoint is not offered: no image of a process fits another machine's kernel.
func (s *Server) Checkpoint(context.Context, *task.CheckpointTaskRequest) (*emptypb.Empty, error) {
	return nil, status.Error(codes.Unimplemented, "checkpoint: not offered for containers in machines")
}

// ResizePty sets the size of a terminal, also of one whose process has not started.
func (s *Server) ResizePty(_ context.Context, r *task.ResizePtyRequest) (*emptypb.Empty, error) {
	_, p, err := s.process(r.ID, r.ExecID)
	if err != nil {
		return nil, err
	}
	return done(p.resize(uint16(r.Width), uint16(r.Height)))
}

// CloseIO closes a process's input in the guest.
func (s *Server) CloseIO(_ context.Context, r *task.CloseIORequest) (*emptypb.Empty, error) {
	_, p, err := s.process(r.ID, r.ExecID)
	if err != nil {
		return nil, err
	}
	if r.Stdin {
		p.closeInput()
	}
	return &emptypb.Empty{}, nil
}

// Update changes the limits of a container.
func (s *Server) Update(_ context.Context, r *task.UpdateTaskRequest) (*emptypb.Empty, error) {
	c, err := s.container(r.ID)
	if err != nil {
		return nil, err
	}
	var limits specs.LinuxResources
	if err := json.Unmarshal(r.Resources.GetValue(), &limits); err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "resources: %v", err)
	}
	return done(c.update(&limits))
}

// Stats are the metrics of the container's cgroup, in containerd's form of cgroup 2.
// Without an id they are those of all containers together.
func (s *Server) Stats(_ context.Context, r *task.StatsRequest) (*task.StatsResponse, error) {
	if r.ID != "" {
		if _, err := s.container(r.ID); err != nil {
			return nil, err
		}
	}
	group, err := cgroup2.Load(path.Join(pact.Cgroup, r.ID))
	if err != nil {
		return nil, asStatus(err)
	}
	metrics, err := group.Stat()
	if err != nil {
		return nil, asStatus(err)
	}
	stats, err := marshal(metrics)
	return &task.StatsResponse{Stats: stats}, err
}

// State tells of one process; the shim knows its streams.
func (s *Server) State(_ context.Context, r *task.StateRequest) (*task.StateResponse, error) {
	_, p, err := s.process(r.ID, r.ExecID)
	if err != nil {
		return nil, err
	}
	return &task.StateResponse{ID: r.ID, ExecID: r.ExecID, Pid: p.pid(), Status: p.status()}, nil
}

// Connect tells the number of a container's first process.
func (s *Server) Connect(_ context.Context, r *task.ConnectRequest) (*task.ConnectResponse, error) {
	c, err := s.container(r.ID)
	if err != nil {
		return nil, err
	}
	return &task.ConnectResponse{TaskPid: c.init.pid()}, nil
}

// Shutdown does nothing: the machine ends this program.
func (s *Server) Shutdown(context.Context, *task.ShutdownRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, nil
}
