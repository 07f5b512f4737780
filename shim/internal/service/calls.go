package service

import (
	"context"
	"fmt"

	"github.com/containerd/containerd/api/events"
	task "github.com/containerd/containerd/api/runtime/task/v2"
	tasktypes "github.com/containerd/containerd/api/types/task"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/agentd-go/agentd/shim/internal/pod"
)

// The calls that the guest answers.

// Kill sends a signal to a process, or to all of a container.
func (t *Tasks) Kill(ctx context.Context, r *task.KillRequest) (*emptypb.Empty, error) {
	_, p, err := t.pod.Process(r.ID, r.ExecID)
	if err != nil {
		return nil, err
	}
	if p.Status() == pod.Stopped {
		return nil, status.Error(codes.NotFound, "process already finished: not found")
	}
	guest, err := t.pod.Tasks()
	if err != nil {
		return nil, err
	}
	const sigkill = 9
	if r.Signal == sigkill && r.ExecID == "" {
		t.pod.Insist(p)
	}
	return told(guest.Kill(ctx, r))
}

// Pids lists a container's processes by the guest's numbers, but for the first,
// which has the one that containerd was told.
func (t *Tasks) Pids(ctx context.Context, r *task.PidsRequest) (*task.PidsResponse, error) {
	guest, err := t.pod.Tasks()
	if err != nil {
		return nil, err
	}
	first, err := told(guest.Connect(ctx, &task.ConnectRequest{ID: r.ID}))
	if err != nil {
		return nil, err
	}
	inside, err := told(guest.Pids(ctx, r))
	if err != nil {
		return nil, err
	}
	answer := &task.PidsResponse{}
	for _, info := range inside.Processes {
		number := info.GetPid()
		if number == first.TaskPid {
			number = pid()
		}
		// The number alone: what else the guest may say of it is not containerd's.
		answer.Processes = append(answer.Processes, &tasktypes.ProcessInfo{Pid: number})
	}
	return answer, nil
}

// Pause freezes a container.
func (t *Tasks) Pause(ctx context.Context, r *task.PauseRequest) (*emptypb.Empty, error) {
	return t.freeze(r.ID, true, func(guest task.TTRPCTaskService) (*emptypb.Empty, error) { return guest.Pause(ctx, r) })
}

// Resume lets it go on.
func (t *Tasks) Resume(ctx context.Context, r *task.ResumeRequest) (*emptypb.Empty, error) {
	return t.freeze(r.ID, false, func(guest task.TTRPCTaskService) (*emptypb.Empty, error) { return guest.Resume(ctx, r) })
}

func (t *Tasks) freeze(id string, frozen bool, call func(task.TTRPCTaskService) (*emptypb.Empty, error)) (*emptypb.Empty, error) {
	c, err := t.pod.Container(id)
	if err != nil {
		return nil, err
	}
	guest, err := t.pod.Tasks()
	if err != nil {
		return nil, err
	}
	answer, err := told(call(guest))
	if err != nil {
		return nil, err
	}
	c.Init.SetPaused(frozen)
	if frozen {
		t.events.Send("/tasks/paused", &events.TaskPaused{ContainerID: id})
	} else {
		t.events.Send("/tasks/resumed", &events.TaskResumed{ContainerID: id})
	}
	return answer, nil
}

// Checkpoint is not offered.
func (t *Tasks) Checkpoint(context.Context, *task.CheckpointTaskRequest) (*emptypb.Empty, error) {
	return nil, status.Error(codes.Unimplemented, "checkpoint: not offered for containers in machines")
}

// ResizePty sets the size of a terminal, also before its process starts.
func (t *Tasks) ResizePty(ctx context.Context, r *task.ResizePtyRequest) (*emptypb.Empty, error) {
	return forward(t, func(guest task.TTRPCTaskService) (*emptypb.Empty, error) { return guest.ResizePty(ctx, r) })
}

// Update changes a container's limits.
func (t *Tasks) Update(ctx context.Context, r *task.UpdateTaskRequest) (*emptypb.Empty, error) {
	return forward(t, func(guest task.TTRPCTaskService) (*emptypb.Empty, error) { return guest.Update(ctx, r) })
}

// Stats are a container's metrics, in the form of cgroup 2.
func (t *Tasks) Stats(ctx context.Context, r *task.StatsRequest) (*task.StatsResponse, error) {
	answer, err := forward(t, func(guest task.TTRPCTaskService) (*task.StatsResponse, error) { return guest.Stats(ctx, r) })
	if err != nil {
		return nil, err
	}
	return answer, checkStats(answer.GetStats())
}

const (
	metricsType = "io.containerd.cgroups.v2.Metrics"
	// maxMetrics is many times what a guest's cgroup has to tell.
	maxMetrics = 256 << 10
)

// checkStats lets no other message of the guest reach containerd.
func checkStats(stats *anypb.Any) error {
	if stats.GetTypeUrl() != metricsType || len(stats.GetValue()) > maxMetrics {
		return fmt.Errorf("metrics: the guest answers %d bytes of type %.64q, want %s of %d at most", len(stats.GetValue()), stats.GetTypeUrl(), metricsType, maxMetrics)
	}
	return nil
}

// told bounds the words of a guest that refuses.
func told[A any](answer *A, err error) (*A, error) {
	if err != nil {
		return nil, pod.InGuest(err)
	}
	return answer, nil
}

func forward[A any](t *Tasks, call func(task.TTRPCTaskService) (*A, error)) (*A, error) {
	guest, err := t.pod.Tasks()
	if err != nil {
		return nil, err
	}
	return told(call(guest))
}
