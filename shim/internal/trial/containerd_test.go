package trial

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	runtimeName = "io.containerd.agentd.v2"
	image       = "localhost/busybox:trial"
	// commandTime is for one ctr: a pod boots in 2 s in software emulation, in twenty
	// times that on a host that is busy.
	commandTime = 3 * time.Minute
)

// A host is a containerd of this test's own.
type host struct {
	dir, bin string
	daemon   *exec.Cmd
}

func require(t *testing.T) (bin string) {
	t.Helper()
	bin, err := filepath.Abs("../../../bin")
	if err != nil {
		t.Fatal(err)
	}
	var missing []string
	if os.Getuid() != 0 {
		missing = append(missing, "root")
	}
	for _, p := range []string{"containerd", "ctr"} {
		if _, err := exec.LookPath(p); err != nil {
			missing = append(missing, p)
		}
	}
	for _, f := range []string{"containerd-shim-agentd-v2", "pod/sbin/agentd-pod"} {
		if _, err := os.Stat(filepath.Join(bin, f)); err != nil {
			missing = append(missing, f+" (make shim)")
		}
	}
	if len(missing) == 0 {
		return bin
	}
	if os.Getenv("AGENTD_REQUIRE_PODS") == "1" {
		t.Fatalf("pods are required, and these are missing: %s", strings.Join(missing, ", "))
	}
	t.Skipf("no pods here: %s", strings.Join(missing, ", "))
	return ""
}

const config = `version = 2
root = "DIR/root"
state = "DIR/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]
[grpc]
  address = "DIR/c.sock"
[ttrpc]
  address = "DIR/c.sock.ttrpc"
`

// newHost starts containerd and gives it an image. What is left of it at the end of
// the test is a failure.
func newHost(t *testing.T) *host {
	t.Helper()
	h := &host{bin: require(t)}
	// Not below the test's name: a socket's path is short.
	dir, err := os.MkdirTemp("/tmp", "pods-") //nolint:usetesting // Its path would be too long.
	if err != nil {
		t.Fatal(err)
	}
	h.dir = dir
	h.write(t, "config.toml", []byte(strings.ReplaceAll(config, "DIR", dir)))
	h.start(t)
	t.Cleanup(func() { h.end(t) })
	h.write(t, "image.tar", imageArchive(t))
	h.must(t, "image", "import", filepath.Join(dir, "image.tar"))
	return h
}

func (h *host) write(t *testing.T, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(h.dir, name), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (h *host) start(t *testing.T) {
	t.Helper()
	log, err := os.OpenFile(filepath.Join(h.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	h.daemon = exec.CommandContext(context.Background(), "containerd", "-c", filepath.Join(h.dir, "config.toml"))
	h.daemon.Env = append(os.Environ(), "PATH="+h.bin+":"+os.Getenv("PATH"), "AGENTD_SHIM_RUN="+filepath.Join(h.dir, "run"))
	h.daemon.Stdout, h.daemon.Stderr = log, log
	if err := h.daemon.Start(); err != nil {
		t.Fatal(err)
	}
	h.until(t, "containerd answers", func() bool {
		_, err := h.ctr(t, "version")
		return err == nil
	})
}

// stop ends containerd alone.
func (h *host) stop(t *testing.T) {
	t.Helper()
	_ = h.daemon.Process.Signal(syscall.SIGTERM)
	if err := h.daemon.Wait(); err != nil {
		t.Logf("containerd: %v", err)
	}
}

func (h *host) end(t *testing.T) {
	t.Helper()
	if t.Failed() {
		log, _ := os.ReadFile(filepath.Join(h.dir, "log"))
		t.Logf("the end of containerd's log:\n%s", log[max(0, len(log)-4000):])
	}
	for line := range strings.Lines(h.must(t, "container", "ls", "-q")) {
		id := strings.TrimSpace(line)
		_, _ = h.ctr(t, "task", "rm", "-f", id)
		_, _ = h.ctr(t, "container", "rm", id)
	}
	h.until(t, "nothing of the pods is left", func() bool { return len(h.left(t)) == 0 })
	if left := h.left(t); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
	h.stop(t)
	if err := os.RemoveAll(h.dir); err != nil {
		t.Error(err)
	}
}

// left lists the processes, mounts and directories of this host's pods.
func (h *host) left(t *testing.T) (all []string) {
	t.Helper()
	run := filepath.Join(h.dir, "run")
	procs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, p := range procs {
		b, _ := os.ReadFile(p)
		if line := string(bytes.ReplaceAll(b, []byte{0}, []byte{' '})); strings.Contains(line, run) {
			all = append(all, "process "+line)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, run) || strings.Contains(line, h.dir+"/state") {
			all = append(all, "mount "+line)
		}
	}
	pods, _ := filepath.Glob(run + "/*")
	groups, _ := filepath.Glob("/sys/fs/cgroup/*/" + filepath.Base(h.dir))
	return append(append(all, pods...), groups...)
}

// ctr runs containerd's client.
func (h *host) ctr(t *testing.T, args ...string) (string, error) {
	t.Helper()
	return h.ctrInput(t, "", args...)
}

func (h *host) ctrInput(t *testing.T, input string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), commandTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "ctr", append([]string{"-a", filepath.Join(h.dir, "c.sock")}, args...)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &out, &errs, time.Second
	if input != "" {
		cmd.Stdin = &lateInput{text: input, ready: func() bool { return h.isRunning(t) }}
	}
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("ctr %s: %w\n%s", strings.Join(args, " "), firstOf(ctx, err), errs.String())
	}
	return out.String(), nil
}

// A lateInput comes when the container runs: ctr forgets to pass the end of an input
// on that it has read before that.
type lateInput struct {
	text  string
	ready func() bool
}

func (l *lateInput) Read(b []byte) (int, error) {
	if l.text == "" {
		return 0, io.EOF
	}
	for end := time.Now().Add(commandTime); !l.ready() && time.Now().Before(end); <-time.After(50 * time.Millisecond) {
	}
	n := copy(b, l.text)
	l.text = l.text[n:]
	return n, nil
}

func (h *host) isRunning(t *testing.T) bool {
	t.Helper()
	out, err := h.ctr(t, "task", "ls")
	return err == nil && strings.Contains(out, "RUNNING")
}

func firstOf(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

func (h *host) must(t *testing.T, args ...string) string {
	t.Helper()
	out, err := h.ctr(t, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// run makes a container that goes on until it is removed.
func (h *host) run(t *testing.T, id string, flags ...string) {
	t.Helper()
	h.must(t, append(append([]string{"run", "-d", "--runtime", runtimeName}, flags...), image, id, "sleep", "1000")...)
}

// exec runs a command in a container.
func (h *host) exec(t *testing.T, id string, words ...string) string {
	t.Helper()
	return strings.TrimSpace(h.must(t, append([]string{"task", "exec", "--exec-id", fmt.Sprintf("e%d", time.Now().UnixNano()), id}, words...)...))
}

// onTerminal runs ctr on a terminal, which script(1) makes.
func (h *host) onTerminal(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), commandTime)
	defer cancel()
	words := append([]string{"ctr", "-a", filepath.Join(h.dir, "c.sock")}, args...)
	cmd := exec.CommandContext(ctx, "script", "-qec", strings.Join(words, " "), "/dev/null")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%s: %v\n%s", strings.Join(words, " "), err, out)
	}
	return string(out)
}

func (h *host) until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(commandTime); !holds(); <-time.After(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Errorf("not within %v: %s", commandTime, what)
			return
		}
	}
}

// imageArchive is an image of the host's static busybox, as "docker save" writes one.
func imageArchive(t *testing.T) []byte {
	t.Helper()
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatal(err)
	}
	applets, err := exec.CommandContext(t.Context(), "/bin/busybox", "--list").Output()
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{"bin/busybox": busybox, "etc/passwd": []byte("root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n")}
	layer := archive(t, files, strings.Fields(string(applets)))
	sum := func(b []byte) string { s := sha256.Sum256(b); return hex.EncodeToString(s[:]) }
	cfg := marshal(t, map[string]any{
		"architecture": "amd64", "os": "linux", "config": map[string]any{"Env": []string{"PATH=/bin"}, "Cmd": []string{"sh"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + sum(layer)}},
	})
	manifest := marshal(t, []map[string]any{{"Config": sum(cfg) + ".json", "RepoTags": []string{image}, "Layers": []string{"layer.tar"}}})
	return archive(t, map[string][]byte{sum(cfg) + ".json": cfg, "layer.tar": layer, "manifest.json": manifest}, nil)
}

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func archive(t *testing.T, files map[string][]byte, links []string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	put := func(h *tar.Header, content []byte) {
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	if links != nil {
		for _, d := range []string{"bin", "etc", "tmp", "proc", "sys", "dev", "data"} {
			put(&tar.Header{Name: d, Typeflag: tar.TypeDir, Mode: 0o755}, nil)
		}
	}
	for name, content := range files {
		put(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(content))}, content)
	}
	for _, l := range links {
		if l != "busybox" {
			put(&tar.Header{Name: "bin/" + l, Typeflag: tar.TypeLink, Linkname: "bin/busybox", Mode: 0o755}, nil)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
