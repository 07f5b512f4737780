package service

import (
	"context"
	"encoding/json"
	"errors"
	"runtime"
	"time"

	task "github.com/containerd/containerd/api/runtime/task/v2"
	"github.com/containerd/ttrpc"
	"github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/agentd-go/agentd/shim/internal/cri"
	"github.com/agentd-go/agentd/shim/internal/pod"
	"github.com/agentd-go/agentd/shim/internal/raw"
)

// sandboxService is containerd's service by which a shim makes pods. Its messages are
// read and written by number (package raw), as in containerd's sandbox.proto: in each
// request field 1 is the sandbox's id.
const sandboxService = "containerd.runtime.sandbox.v1.Sandbox"

// The numbers of the fields of requests.
const (
	sandboxID = 1

	createOptions, createNetwork = 4, 5

	anyURL, anyValue = 1, 2
)

func (t *Tasks) registerSandbox(s *ttrpc.Server) {
	methods := map[string]ttrpc.Method{}
	for name, f := range map[string]func(context.Context, raw.Message) ([]byte, error){
		"CreateSandbox": t.createSandbox, "StartSandbox": t.startSandbox, "Platform": t.platform, "StopSandbox": t.stopSandbox,
		"WaitSandbox": t.waitSandbox, "SandboxStatus": t.sandboxStatus, "PingSandbox": t.pingSandbox,
		"ShutdownSandbox": t.shutdownSandbox, "SandboxMetrics": t.sandboxMetrics,
	} {
		methods[name] = method(func(ctx context.Context, q *emptypb.Empty) (*emptypb.Empty, error) { return t.answerRaw(ctx, q, f) })
	}
	s.RegisterService(sandboxService, &ttrpc.ServiceDesc{Methods: methods})
}

// answerRaw serves a call whose messages are the unknown fields of an empty one.
func (t *Tasks) answerRaw(ctx context.Context, q *emptypb.Empty, f func(context.Context, raw.Message) ([]byte, error)) (*emptypb.Empty, error) {
	m, err := raw.Parse(q.ProtoReflect().GetUnknown())
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	if id := m.Text(sandboxID); id != t.pod.ID() {
		return nil, status.Errorf(codes.NotFound, "sandbox %.128q: this is the shim of %q", id, t.pod.ID())
	}
	b, err := f(ctx, m)
	if err != nil {
		return nil, err
	}
	a := &emptypb.Empty{}
	a.ProtoReflect().SetUnknown(b)
	return a, nil
}

func (t *Tasks) createSandbox(_ context.Context, q raw.Message) ([]byte, error) {
	options, err := q.Message(createOptions)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	network := q.Text(createNetwork)
	var config cri.Pod
	if options.Text(anyURL) == cri.TypeURL {
		if config, err = cri.Parse(options.Bytes(anyValue)); err == nil && network == "" {
			err = errors.New("netns_path: it is missing, which asks for the host's network; a machine has its own")
		}
		if err != nil {
			return nil, status.Error(codes.InvalidArgument, err.Error())
		}
	}
	return nil, t.pod.CreateSandbox(config, network)
}

func (t *Tasks) startSandbox(ctx context.Context, _ raw.Message) ([]byte, error) {
	if err := t.pod.StartSandbox(ctx); err != nil {
		return nil, err
	}
	spec, err := json.Marshal(specs.Spec{Version: specs.Version, Linux: &specs.Linux{}})
	if err != nil {
		return nil, err
	}
	const number, created, specification = 1, 2, 3
	b := appendTime(raw.AppendNumber(nil, number, uint64(pid())), created, t.pod.SandboxStatus().Created)
	return raw.AppendText(b, specification, raw.AppendText(raw.AppendText(nil, anyURL, specURL), anyValue, spec)), nil
}

// specURL is of an OCI specification, as JSON. Containerd's plugins (NRI) read one of
// each sandbox; ours has nothing in it.
const specURL = "types.containerd.io/opencontainers/runtime-spec/1/Spec"

// platform says for which system the images of the pod are.
func (t *Tasks) platform(context.Context, raw.Message) ([]byte, error) {
	const platform, system, architecture = 1, 1, 2
	return raw.AppendText(nil, platform, raw.AppendText(raw.AppendText(nil, system, "linux"), architecture, runtime.GOARCH)), nil
}

func (t *Tasks) stopSandbox(context.Context, raw.Message) ([]byte, error) {
	return nil, t.pod.StopSandbox()
}

func (t *Tasks) waitSandbox(ctx context.Context, _ raw.Message) ([]byte, error) {
	box, err := t.sandbox()
	if err != nil {
		return nil, err
	}
	select {
	case <-box.Done():
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	const code, at = 1, 2
	s := t.pod.SandboxStatus()
	return appendTime(raw.AppendNumber(nil, code, uint64(s.Code)), at, s.Ended), nil
}

// The states of a sandbox in CRI's words.
const (
	sandboxReady    = "SANDBOX_READY"
	sandboxNotReady = "SANDBOX_NOTREADY"
)

func (t *Tasks) sandboxStatus(context.Context, raw.Message) ([]byte, error) {
	if _, err := t.sandbox(); err != nil {
		return nil, err
	}
	const id, number, state, created, ended = 1, 2, 3, 5, 6
	s := t.pod.SandboxStatus()
	word := sandboxNotReady
	if s.State == pod.Running {
		word = sandboxReady
	}
	b := raw.AppendText(nil, id, t.pod.ID())
	b = raw.AppendText(raw.AppendNumber(b, number, uint64(pid())), state, word)
	return appendTime(appendTime(b, created, s.Created), ended, s.Ended), nil
}

func (t *Tasks) pingSandbox(context.Context, raw.Message) ([]byte, error) {
	_, err := t.sandbox()
	return nil, err
}

// shutdownSandbox ends the shim, whatever the sandbox has.
func (t *Tasks) shutdownSandbox(context.Context, raw.Message) ([]byte, error) {
	var err error
	if t.pod.Sandbox() != nil {
		err = t.pod.StopSandbox()
	}
	t.closing.Do(func() { close(t.closed) })
	return nil, err
}

// sandboxMetrics are those of all containers of the pod.
func (t *Tasks) sandboxMetrics(ctx context.Context, _ raw.Message) ([]byte, error) {
	answer, err := t.Stats(ctx, &task.StatsRequest{})
	if err != nil {
		return nil, err
	}
	data, err := proto.Marshal(answer.GetStats())
	if err != nil {
		return nil, err
	}
	const metrics, at, id, figures = 1, 1, 2, 3
	b := raw.AppendText(appendTime(nil, at, time.Now()), id, t.pod.ID())
	return raw.AppendText(nil, metrics, raw.AppendText(b, figures, data)), nil
}

func (t *Tasks) sandbox() (*pod.Sandbox, error) {
	box := t.pod.Sandbox()
	if box == nil {
		return nil, status.Errorf(codes.NotFound, "sandbox %q: it has not been created", t.pod.ID())
	}
	return box, nil
}

// appendTime adds a google.protobuf.Timestamp, unless it is zero.
func appendTime(b []byte, number protowire.Number, at time.Time) []byte {
	if at.IsZero() {
		return b
	}
	text, err := proto.Marshal(timestamppb.New(at))
	if err != nil {
		return b // Two numbers, which cannot fail.
	}
	return raw.AppendText(b, number, text)
}
