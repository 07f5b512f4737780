package trial

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// TestContainers is what a user does with one container and then with a pod of two.
func TestContainers(t *testing.T) {
	h := newHost(t)
	t.Run("run", func(t *testing.T) { oneShot(t, h) })
	t.Run("refusals", func(t *testing.T) { refusals(t, h) })
	t.Run("pod", func(t *testing.T) { podOfTwo(t, h) })
	t.Run("killed", func(t *testing.T) { killed(t, h) })
}

// oneShot looks at the streams, the status and what the specification asks for.
func oneShot(t *testing.T, h *host) {
	t.Helper()
	script := `echo ready; cat; echo error >&2; grep CapBnd /proc/self/status; touch /x; touch /tmp/x; touch /data/y; exit 7`
	share := t.TempDir()
	out, err := h.ctrInput(t, "input\n", "run", "--rm", "--runtime", runtimeName, "--read-only", "--cap-drop", "CAP_CHOWN", "--seccomp",
		"--mount", "type=bind,src="+share+",dst=/data,options=rbind:rw", "--mount", "type=bind,src="+share+",dst=/tmp,options=rbind:ro",
		image, "one", "sh", "-c", script)
	if err == nil || !strings.Contains(err.Error(), "exit status 7") || !strings.Contains(err.Error(), "error\n") {
		t.Errorf("want status 7 and the word of stderr: %v", err)
	}
	if n := strings.Count(fmt.Sprint(err), "Read-only file system"); n != 2 {
		t.Errorf("%d of 2 places were read-only: %v", n, err)
	}
	lines := strings.Split(out, "\n")
	if len(lines) < 3 || lines[1] != "input" || !strings.HasSuffix(lines[2], "00000000a80425fa") {
		t.Errorf("output %q", out)
	}
	if _, err := os.Stat(filepath.Join(share, "y")); err != nil {
		t.Error(err)
	}
}

// refusals must name the reason and leave nothing, so that their ids can be used again.
func refusals(t *testing.T, h *host) {
	t.Helper()
	for name, c := range map[string]struct {
		flags []string
		words []string
		want  string
	}{
		"no such command": {nil, []string{"/nonexistent"}, "no such file or directory"},
		"host network":    {[]string{"--net-host"}, []string{"true"}, `linux.namespaces "network"`},
		"no such volume":  {[]string{"--mount", "type=bind,src=/nonexistent,dst=/data,options=rbind"}, []string{"true"}, "volume /nonexistent"},
	} {
		words := append(append(append([]string{"run", "--rm", "--runtime", runtimeName}, c.flags...), image, "refused"), c.words...)
		if _, err := h.ctr(t, words...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// podOfTwo has two containers in one machine, that share what a pod's containers do.
func podOfTwo(t *testing.T, h *host) {
	t.Helper()
	share := t.TempDir()
	mount := []string{"--mount", "type=bind,src=" + share + ",dst=/data,options=rbind:rw"}
	h.run(t, "first", append(mount, "--memory-limit", "67108864")...)
	h.run(t, "second", append(mount, "--annotation", "io.kubernetes.cri.sandbox-id=first")...)
	if n := len(machines(t, h)); n != 1 {
		t.Errorf("%d machines for one pod", n)
	}
	h.exec(t, "first", "sh", "-c", "echo written >/data/f")
	if got, err := os.ReadFile(filepath.Join(share, "f")); string(got) != "written\n" {
		t.Errorf("the host reads %q, %v", got, err)
	}
	if err := os.WriteFile(filepath.Join(share, "f"), []byte("changed"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := h.exec(t, "second", "cat", "/data/f"); got != "changed" {
		t.Errorf("the other container reads %q", got)
	}
	if a, b := h.exec(t, "first", "readlink", "/proc/self/ns/net"), h.exec(t, "second", "readlink", "/proc/self/ns/net"); a != b {
		t.Errorf("network namespaces %s and %s", a, b)
	}
	if _, err := h.ctr(t, "task", "exec", "--exec-id", "bad", "first", "/nonexistent"); err == nil {
		t.Error("a command that does not exist was executed")
	}
	if out := h.onTerminal(t, "task", "exec", "--exec-id", "tty", "-t", "first", "tty"); !strings.Contains(out, "/dev/pts/") {
		t.Errorf("terminal %q", out)
	}
	pauseAndMetrics(t, h)
	lookInside(t, h)
	restart(t, h)
}

func pauseAndMetrics(t *testing.T, h *host) {
	t.Helper()
	h.must(t, "task", "pause", "first")
	if out := h.must(t, "task", "ls"); !strings.Contains(out, "PAUSED") {
		t.Errorf("states:\n%s", out)
	}
	h.must(t, "task", "resume", "first")
	var metrics struct {
		Memory struct {
			Limit json.Number `json:"usage_limit"`
		} `json:"memory"`
	}
	out := h.must(t, "task", "metrics", "--format", "json", "first")
	if err := json.Unmarshal([]byte(out), &metrics); err != nil || metrics.Memory.Limit.String() != "67108864" {
		t.Errorf("metrics %s: %v", out, err)
	}
}

// lookInside sees the pod's machine by agentctl, which must not end it.
func lookInside(t *testing.T, h *host) {
	t.Helper()
	for _, c := range []struct{ words, want string }{
		{"ps --pods", "pod/first"},
		{"ps --pods --format {{.Name}}={{.State}}", "pod/first=running"},
		{"why pod/first", "agentd-pod"},
		{"logs pod/fir", "agentd: "},
		{"exec pod/default/first -- cat /proc/1/comm", "agentd"},
		{"rm -f pod/first", "it is a pod of containerd"},
		{"ps pod/other", "not found"},
	} {
		cmd := exec.CommandContext(t.Context(), filepath.Join(h.bin, "agentctl"), strings.Fields(c.words)...)
		cmd.Env = append(os.Environ(), "AGENTD_SHIM_RUN="+filepath.Join(h.dir, "run"))
		if out, _ := cmd.CombinedOutput(); !strings.Contains(string(out), c.want) {
			t.Errorf("agentctl %s: want %q:\n%s", c.words, c.want, out)
		}
	}
}

// restart ends containerd beneath the pod, and starts it again.
func restart(t *testing.T, h *host) {
	t.Helper()
	h.stop(t)
	h.start(t)
	if got := h.exec(t, "second", "echo", "still"); got != "still" {
		t.Errorf("after a restart of containerd: %q", got)
	}
	h.must(t, "task", "kill", "-s", "SIGKILL", "second")
	h.until(t, "the second container has ended", func() bool { return strings.Contains(h.must(t, "task", "ls"), "STOPPED") })
	if got := h.exec(t, "first", "echo", "alone"); got != "alone" {
		t.Errorf("after the other's end: %q", got)
	}
}

// killed kills the parts of a pod: containerd hears of it, and newHost's end looks for
// what is left.
func killed(t *testing.T, h *host) {
	t.Helper()
	for _, victim := range []string{"containerd-shim", "qemu-system-x86", "virtiofsd"} {
		id := "without-" + victim
		h.run(t, id)
		pids := members(t, h, victim)
		if len(pids) == 0 {
			t.Fatalf("no %s runs", victim)
		}
		// The newest is the pod's that was just made.
		if err := syscall.Kill(pids[len(pids)-1], syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		h.until(t, "the task of a pod without its "+victim+" has ended", func() bool {
			out := h.must(t, "task", "ls")
			return !strings.Contains(lineOf(out, id), "RUNNING")
		})
		_, _ = h.ctr(t, "task", "rm", "-f", id)
		h.must(t, "container", "rm", id)
	}
}

func lineOf(text, word string) string {
	for line := range strings.Lines(text) {
		if strings.Contains(line, word) {
			return line
		}
	}
	return ""
}

func machines(t *testing.T, h *host) []int {
	t.Helper()
	return members(t, h, "qemu-system-x86")
}

// members are the processes of this host's pods with a name, the oldest first.
func members(t *testing.T, h *host, name string) (pids []int) {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		comm, _ := os.ReadFile("/proc/" + e.Name() + "/comm")
		environ, _ := os.ReadFile("/proc/" + e.Name() + "/environ")
		if strings.HasPrefix(strings.TrimSpace(string(comm)), name) && strings.Contains(string(environ), h.dir+"/run") {
			pids = append(pids, pid)
		}
	}
	// Numbers begin anew after 32,768.
	slices.SortFunc(pids, func(a, b int) int { return cmp.Compare(startOf(a), startOf(b)) })
	return pids
}

// startOf is when a process was started, in ticks; 0 for one that has ended.
func startOf(pid int) int {
	const start = 22
	n, _ := strconv.Atoi(statField(pid, start))
	return n
}
