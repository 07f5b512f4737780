package trial

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	sandboxapi "github.com/containerd/containerd/api/runtime/sandbox/v1"
)

// lies are programs in the place of agentd-pod, as a guest that was taken over has them:
// what each says of itself, and what the shim must say of that.
// Those that are long are for AGENTD_LONG.
var lies = map[string]struct {
	script, want string
	long         bool
}{
	"it ends":             {`exit 3`, "EOF", false},
	"no JSON":             {`head -c 100 /dev/zero; exec sleep 1000`, "invalid character", false},
	"an endless line":     {`echo '{"Error":"'; exec yes x`, "wait for /sbin/agentd-pod", false},
	"words for a log":     {`printf '{"Error":"a\\n\\u001b[31mlevel=error"}\n'; exec sleep 1000`, `a\n\x1b[31mlevel=error`, true},
	"nobody at the port":  {`echo '{"Control":9,"Streams":9}'; exec sleep 1000`, "refused", true},
	"a port out of range": {`echo '{"Control":99999,"Streams":-1}'; exec sleep 1000`, "", true},
	"its own echo":        {`nc -ll -p 9 -e cat & until grep -q ':0009 ' /proc/net/tcp*; do :; done; echo '{"Control":9,"Streams":9}'; exec sleep 1000`, "", true},
	"noise":               {`nc -ll -p 9 -e yes & until grep -q ':0009 ' /proc/net/tcp*; do :; done; echo '{"Control":9,"Streams":9}'; exec sleep 1000`, "", true},
}

// TestHostilePrograms boots real machines with these programs. Each pod fails, in words
// that are bounded and quoted, and ends; nothing of it is left.
func TestHostilePrograms(t *testing.T) {
	bin := require(t)
	for name, lie := range lies {
		if lie.long && os.Getenv("AGENTD_LONG") == "" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Setenv("AGENTD_POD_ROOT", fakeRoot(t, bin, lie.script))
			c := newCaller(t)
			if _, err := c.box.CreateSandbox(t.Context(), &sandboxapi.CreateSandboxRequest{SandboxID: "box"}); err != nil {
				t.Fatal(err)
			}
			_, err := c.box.StartSandbox(t.Context(), &sandboxapi.StartSandboxRequest{SandboxID: "box"})
			if err == nil {
				c.useSandbox(t)
				return
			}
			if !strings.Contains(err.Error(), lie.want) || len(err.Error()) > 16<<10 || strings.ContainsRune(err.Error(), 0x1b) {
				t.Errorf("%.1000v, want %q", err, lie.want)
			}
		})
	}
}

// useSandbox is for a program that was believed: its answer to the first call ends in an
// error.
func (c *caller) useSandbox(t *testing.T) {
	t.Helper()
	if _, err := c.box.SandboxMetrics(t.Context(), &sandboxapi.SandboxMetricsRequest{SandboxID: "box"}); err == nil {
		t.Error("metrics of a program that has none")
	}
}

func fakeRoot(t *testing.T, bin, script string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "sbin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(dir, "bin"), os.DirFS(filepath.Join(bin, "pod/bin"))); err != nil {
		t.Fatal(err)
	}
	words := "#!/bin/busybox sh\nPATH=/bin\n" + script + "\n"
	if err := os.WriteFile(filepath.Join(dir, "sbin/agentd-pod"), []byte(words), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// agentLies are what an agent says that lies (package liar), and what the shim must say of
// that. Those that are long are for AGENTD_LONG.
var agentLies = map[string]struct {
	want string
	long bool
}{
	"end":     {"", false},
	"noise":   {"", false},
	"zeros":   {"", true},
	"giant":   {"", true},
	"early":   {"core.init.resolved", true},
	"flood":   {"", true},
	"answers": {"bad frame from agent", false},
	"after":   {"", true},
	"mute":    {"the machine has not started /sbin/agentd-pod within", true},
}

// TestHostileAgents boots machines with such agents, beside a pod with ours. Each ends its
// own pod, in words that are bounded and hold no control characters, and the other goes on.
func TestHostileAgents(t *testing.T) {
	require(t)
	good := newCaller(t)
	pid := good.boot(t)
	for lie, want := range agentLies {
		if want.long && os.Getenv("AGENTD_LONG") == "" {
			continue
		}
		t.Run(lie, func(t *testing.T) {
			t.Setenv("AGENTCTL_AGENTD", liar(t, lie))
			c := newCaller(t)
			if _, err := c.box.CreateSandbox(t.Context(), &sandboxapi.CreateSandboxRequest{SandboxID: "box"}); err != nil {
				t.Fatal(err)
			}
			_, err := c.box.StartSandbox(t.Context(), &sandboxapi.StartSandboxRequest{SandboxID: "box"})
			if err == nil {
				t.Fatal("the pod was started")
			}
			if !strings.Contains(err.Error(), want.want) || len(err.Error()) > 16<<10 || strings.ContainsRune(err.Error(), 0x1b) {
				t.Errorf("%.1000v, want %q", err, want.want)
			}
			t.Logf("%.300v", err)
		})
	}
	if got := good.run(t, "after", pid, "echo on"); got != "on" {
		t.Errorf("the pod beside them says %q", got)
	}
}

// boot makes the sandbox, and returns the number of its process.
func (c *caller) boot(t *testing.T) uint32 {
	t.Helper()
	if _, err := c.box.CreateSandbox(t.Context(), &sandboxapi.CreateSandboxRequest{SandboxID: "box"}); err != nil {
		t.Fatal(err)
	}
	r, err := c.box.StartSandbox(t.Context(), &sandboxapi.StartSandboxRequest{SandboxID: "box"})
	if err != nil {
		t.Fatal(err)
	}
	return r.GetPid()
}

func liar(t *testing.T, lie string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "liar")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-ldflags", "-s -w -X main.lie="+lie, "-o", file, "./liar")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return file
}
