package trial

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	sandboxapi "github.com/containerd/containerd/api/runtime/sandbox/v1"
	task "github.com/containerd/containerd/api/runtime/task/v2"
	eventsapi "github.com/containerd/containerd/api/services/ttrpc/events/v1"
	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/agentd-go/agentd/shim/internal/cri"
	"github.com/agentd-go/agentd/shim/internal/raw"
)

// A caller is in containerd's place: it starts a shim and calls it.
type caller struct {
	dir, bin string
	box      sandboxapi.TTRPCSandboxService
	tasks    task.TTRPCTaskService
	topics   chan string
}

func (c *caller) shim(t *testing.T, dir, id string, words ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(context.Background(), filepath.Join(c.bin, "containerd-shim-agentd-v2"),
		append([]string{"-namespace", "trial", "-id", id, "-address", filepath.Join(c.dir, "none")}, words...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "TTRPC_ADDRESS="+filepath.Join(c.dir, "events"), "AGENTD_SHIM_RUN="+filepath.Join(c.dir, "run"))
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, complaints.Bytes())
	}
	return out
}

// Forward takes an event, as containerd does.
func (c *caller) Forward(_ context.Context, r *eventsapi.ForwardRequest) (*emptypb.Empty, error) {
	c.topics <- r.GetEnvelope().GetTopic()
	return &emptypb.Empty{}, nil
}

// newCaller starts the shim of the sandbox "box", whose bundle has no config.json.
func newCaller(t *testing.T) *caller {
	t.Helper()
	bin := require(t)
	dir, err := os.MkdirTemp("/tmp", "box-") //nolint:usetesting // A socket's path is short.
	if err != nil {
		t.Fatal(err)
	}
	c := &caller{dir: dir, bin: bin, topics: make(chan string, 64)}
	listen(t, filepath.Join(dir, "events"), c)
	bundle := filepath.Join(dir, "box")
	if err := os.Mkdir(bundle, 0o700); err != nil {
		t.Fatal(err)
	}
	address, ok := strings.CutPrefix(string(c.shim(t, bundle, "box", "start")), "unix://")
	if !ok {
		t.Fatalf("address %q", address)
	}
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "unix", address)
	if err != nil {
		t.Fatal(err)
	}
	rpc := ttrpc.NewClient(conn)
	c.box, c.tasks = sandboxapi.NewTTRPCSandboxClient(rpc), task.NewTTRPCTaskClient(rpc)
	t.Cleanup(func() { c.end(t, bundle, rpc) })
	return c
}

func listen(t *testing.T, socket string, events eventsapi.TTRPCEventsService) {
	t.Helper()
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ttrpc.NewServer()
	if err != nil {
		t.Fatal(err)
	}
	eventsapi.RegisterTTRPCEventsService(s, events)
	go func() { _ = s.Serve(context.Background(), l) }()
	t.Cleanup(func() { _ = s.Close() })
}

// end deletes what is left, which after the test's own end must be nothing.
func (c *caller) end(t *testing.T, bundle string, rpc *ttrpc.Client) {
	t.Helper()
	_, _ = c.box.ShutdownSandbox(context.Background(), &sandboxapi.ShutdownSandboxRequest{SandboxID: "box"}) // After a failure.
	_ = rpc.Close()
	h := &host{dir: c.dir, bin: c.bin}
	h.until(t, "the shim and all of its pod have ended", func() bool { return len(h.left(t)) == 0 })
	if left := h.left(t); len(left) > 0 {
		t.Errorf("left over: %v", left)
		c.shim(t, bundle, "box", "-bundle", bundle, "delete")
	}
	if err := os.RemoveAll(c.dir); err != nil {
		t.Error(err)
	}
}

// bundle makes one of busybox, whose namespaces are those that containerd names for a
// container in a sandbox.
func (c *caller) bundle(t *testing.T, id string, pid uint32, words ...string) string {
	t.Helper()
	dir := filepath.Join(c.dir, id)
	if err := os.MkdirAll(filepath.Join(dir, "rootfs"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"bin", "proc", "etc", "dev", "tmp"} {
		if err := os.Mkdir(filepath.Join(dir, "rootfs", d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.CommandContext(t.Context(), "cp", "-a", filepath.Join(c.bin, "pod/bin")+"/.", filepath.Join(dir, "rootfs/bin")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	namespaces := []map[string]string{{"type": "mount"}}
	for kind, file := range map[string]string{"pid": "pid", "network": "net", "ipc": "ipc", "uts": "uts"} {
		namespaces = append(namespaces, map[string]string{"type": kind, "path": fmt.Sprintf("/proc/%d/ns/%s", pid, file)})
	}
	spec := marshal(t, map[string]any{
		"ociVersion": "1.0.2", "root": map[string]any{"path": "rootfs"}, "linux": map[string]any{"namespaces": namespaces},
		"process": map[string]any{"cwd": "/", "args": words, "env": []string{"PATH=/bin"}, "user": map[string]any{}},
		"mounts": []map[string]any{
			{"destination": "/proc", "type": "proc", "source": "proc"},
			{"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
			{"destination": "/dev/shm", "type": "tmpfs", "source": "shm"},
		},
	})
	if err := os.WriteFile(filepath.Join(dir, "config.json"), spec, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// run runs a command in a container of its own, and returns its output.
func (c *caller) run(t *testing.T, id string, pid uint32, script string) string {
	t.Helper()
	out := filepath.Join(c.dir, id+".out")
	c.start(t, id, pid, out, script)
	r, err := c.tasks.Wait(t.Context(), &task.WaitRequest{ID: id})
	if err != nil || r.GetExitStatus() != 0 {
		t.Errorf("container %s: status %d, %v", id, r.GetExitStatus(), err)
	}
	if _, err := c.tasks.Delete(t.Context(), &task.DeleteRequest{ID: id}); err != nil {
		t.Error(err)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Error(err)
	}
	return strings.TrimSpace(string(b))
}

func (c *caller) start(t *testing.T, id string, pid uint32, out, script string) {
	t.Helper()
	_, err := c.tasks.Create(t.Context(), &task.CreateTaskRequest{ID: id, Bundle: c.bundle(t, id, pid, "sh", "-c", script), Stdout: "file://" + out})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.tasks.Start(t.Context(), &task.StartRequest{ID: id}); err != nil {
		t.Fatal(err)
	}
}

// podConfig is a PodSandboxConfig of CRI, by the numbers of its fields.
func podConfig() *anypb.Any {
	sysctl := raw.AppendText(raw.AppendText(nil, 1, "kernel.shmmax"), 2, "12345678")
	dns := raw.AppendText(raw.AppendText(nil, 1, "192.0.2.53"), 2, "trial.example")
	b := raw.AppendText(raw.AppendText(nil, 2, "named"), 4, dns)
	return &anypb.Any{TypeUrl: cri.TypeURL, Value: raw.AppendText(b, 8, raw.AppendText(nil, 3, sysctl))}
}

// TestSandbox is the life of a pod that the shim makes: without a pause container the
// containers share namespaces, memory and files, and the machine outlives each of them.
func TestSandbox(t *testing.T) {
	c := newCaller(t)
	ctx := t.Context()
	network := newNamespace(t)
	create := &sandboxapi.CreateSandboxRequest{SandboxID: "box", BundlePath: filepath.Join(c.dir, "box"), Options: podConfig()}
	_, err := c.box.CreateSandbox(ctx, create)
	if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "netns_path") {
		t.Errorf("a pod in the host's network: %v", err)
	}
	create.NetnsPath = network
	if _, err := c.box.CreateSandbox(ctx, create); err != nil {
		t.Fatal(err)
	}
	if _, err := c.box.StartSandbox(ctx, &sandboxapi.StartSandboxRequest{SandboxID: "other"}); status.Code(err) != codes.NotFound {
		t.Errorf("a sandbox of another name: %v", err)
	}
	started, err := c.box.StartSandbox(ctx, &sandboxapi.StartSandboxRequest{SandboxID: "box"})
	if err != nil {
		t.Fatal(err)
	}
	c.lookAtSandbox(t, started.GetPid(), network)
	c.lookAtContainers(t, started.GetPid())
	c.stopSandbox(t, started.GetPid())
}

func newNamespace(t *testing.T) string {
	t.Helper()
	name := fmt.Sprintf("box%d", os.Getpid())
	if out, err := exec.CommandContext(t.Context(), "ip", "netns", "add", name).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(func() { _ = exec.CommandContext(context.Background(), "ip", "netns", "del", name).Run() })
	return "/run/netns/" + name
}

func (c *caller) lookAtSandbox(t *testing.T, pid uint32, network string) {
	t.Helper()
	s, err := c.box.SandboxStatus(t.Context(), &sandboxapi.SandboxStatusRequest{SandboxID: "box"})
	if err != nil || s.GetState() != "SANDBOX_READY" || s.GetPid() != pid || s.GetSandboxID() != "box" || s.GetCreatedAt() == nil || s.GetExitedAt() != nil {
		t.Errorf("status %v, %v", s, err)
	}
	p, err := c.box.Platform(t.Context(), &sandboxapi.PlatformRequest{SandboxID: "box"})
	if err != nil || p.GetPlatform().GetOS() != "linux" || p.GetPlatform().GetArchitecture() != "amd64" {
		t.Errorf("platform %v, %v", p, err)
	}
	if _, err := c.box.PingSandbox(t.Context(), &sandboxapi.PingRequest{SandboxID: "box"}); err != nil {
		t.Error(err)
	}
	if _, err := c.box.UpdateSandbox(t.Context(), &sandboxapi.UpdateSandboxRequest{SandboxID: "box"}); status.Code(err) != codes.Unimplemented {
		t.Errorf("an update: %v", err)
	}
	want, errWant := os.Stat(network)
	have, errHave := os.Stat(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err := errors.Join(errWant, errHave); err != nil || !os.SameFile(want, have) {
		t.Errorf("the shim is not in the pod's network: %v", err)
	}
}

func (c *caller) lookAtContainers(t *testing.T, pid uint32) {
	t.Helper()
	const look = `hostname; cat /etc/resolv.conf /proc/sys/kernel/shmmax; cat /proc/1/cmdline | tr '\0' ' ' | cut -c1-20; echo a >/dev/shm/a; echo b >>/etc/hosts; readlink /proc/self/ns/ipc`
	first := strings.Split(c.run(t, "one", pid, look), "\n")
	want := []string{"named", "search trial.example", "nameserver 192.0.2.53", "12345678", "/sbin/agentd-pod hol"}
	if got := strings.Join(first[:min(len(first), len(want))], "|"); got != strings.Join(want, "|") {
		t.Errorf("the container sees %q", first)
	}
	second := c.run(t, "two", pid, `cat /dev/shm/a; tail -1 /etc/hosts; readlink /proc/self/ns/ipc`)
	if second != "a\nb\n"+first[len(first)-1] {
		t.Errorf("the second container sees %q, and the first %q", second, first)
	}
	m, err := c.box.SandboxMetrics(t.Context(), &sandboxapi.SandboxMetricsRequest{SandboxID: "box"})
	if err != nil || m.GetMetrics().GetID() != "box" || m.GetMetrics().GetData().GetTypeUrl() != "io.containerd.cgroups.v2.Metrics" {
		t.Errorf("metrics %v, %v", m, err)
	}
	// What a container leaves behind is reaped, and ends with none of them.
	if out := c.run(t, "three", pid, `(sleep 1000 >/dev/null 2>&1 & true) >/dev/null; sleep 0.1; ps | grep -c 'sleep 1000$'`); out != "1" {
		t.Errorf("orphans %q", out)
	}
}

func (c *caller) stopSandbox(t *testing.T, pid uint32) {
	t.Helper()
	ctx := t.Context()
	c.start(t, "last", pid, filepath.Join(c.dir, "last.out"), "sleep 1000")
	if _, err := c.tasks.Shutdown(ctx, &task.ShutdownRequest{ID: "last"}); err != nil {
		t.Error(err)
	}
	began := time.Now()
	if _, err := c.box.StopSandbox(ctx, &sandboxapi.StopSandboxRequest{SandboxID: "box"}); err != nil {
		t.Error(err)
	}
	w, err := c.box.WaitSandbox(ctx, &sandboxapi.WaitSandboxRequest{SandboxID: "box"})
	if err != nil || w.GetExitedAt().AsTime().Before(began.Add(-time.Second)) {
		t.Errorf("the end %v, %v", w, err)
	}
	r, err := c.tasks.Wait(ctx, &task.WaitRequest{ID: "last"})
	if err != nil || r.GetExitStatus() != 137 {
		t.Errorf("a container of a stopped sandbox: status %d, %v", r.GetExitStatus(), err)
	}
	if _, err := c.tasks.Create(ctx, &task.CreateTaskRequest{ID: "late", Bundle: c.bundle(t, "late", pid, "true")}); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("a container after the end: %v", err)
	}
	if _, err := c.tasks.Delete(ctx, &task.DeleteRequest{ID: "last"}); err != nil {
		t.Error(err)
	}
	if s, err := c.box.SandboxStatus(ctx, &sandboxapi.SandboxStatusRequest{SandboxID: "box"}); err != nil || s.GetState() != "SANDBOX_NOTREADY" {
		t.Errorf("status %v, %v", s, err)
	}
	for _, want := range []string{"/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"} {
		if got := <-c.topics; got != want {
			t.Errorf("event %s, want %s", got, want)
		}
	}
	if _, err := c.box.ShutdownSandbox(ctx, &sandboxapi.ShutdownSandboxRequest{SandboxID: "box"}); err != nil {
		t.Error(err)
	}
}
