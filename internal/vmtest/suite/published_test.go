package suite

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/agentd-go/agentd/internal/vmtest"
	"github.com/agentd-go/agentd/sandbox"
)

// A commandLine is the host program of a published package, with a home of its own in
// which our machine is one of its sandboxes.
type commandLine struct {
	t       *testing.T
	program string
	home    string
}

// newCommandLine enters a running machine's socket into the program's records.
func newCommandLine(t *testing.T, version, socket string) *commandLine {
	t.Helper()
	c := &commandLine{t, vmtest.CommandLine(t, version), filepath.Dir(socket)} // Short enough for a socket in it.
	c.run("", "list")                                                          // It makes its database.
	home := filepath.Join(c.home, ".microsandbox")
	runtime := filepath.Join(home, "sandboxes", "box", "runtime")
	if err := os.MkdirAll(runtime, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(socket, filepath.Join(runtime, "agent.sock")); err != nil {
		t.Fatal(err)
	}
	rows := fmt.Sprintf(`insert into sandbox(name,config,active_config,status,created_at,updated_at)
		values('box','{"name":"box"}','{"name":"box"}','Running',datetime(),datetime());
		insert into run(sandbox_id,pid,status,started_at) values(1,%d,'Running',datetime());`, os.Getpid())
	out, err := exec.CommandContext(t.Context(), "sqlite3", filepath.Join(home, "db", "msb.db"), rows).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return c
}

// run returns what the program prints and its status.
func (c *commandLine) run(input string, args ...string) (out string, code int) {
	c.t.Helper()
	cmd := exec.CommandContext(c.t.Context(), c.program, args...)
	cmd.Env = append(os.Environ(), "HOME="+c.home)
	cmd.Stdin = strings.NewReader(input)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		c.t.Fatal(err)
	}
	if code = cmd.ProcessState.ExitCode(); code != 0 {
		c.t.Logf("%q: status %d: %s", args, code, stderr.String())
	}
	return stdout.String(), code
}

func (c *commandLine) wants(input string, code int, out string, args ...string) {
	c.t.Helper()
	if got, status := c.run(input, args...); got != out || status != code {
		c.t.Errorf("%q: status %d and %.200q, want %d and %.200q", args, status, got, code, out)
	}
}

// TestPublishedCommandLine has msb 0.7.2 work on a machine of generation 9, through our
// relay. It needs sqlite3, with which the machine is entered into msb's records.
//
//holds:wire 5: the published 0.7.2's command line through a relay of generation 9
func TestPublishedCommandLine(t *testing.T) {
	if !long() {
		t.Skip("a trial, with sqlite3: AGENTD_LONG=1")
	}
	h := share(t, sandbox.Config{Kernel: slices.Max(vmtest.Kernels(t))})
	c := newCommandLine(t, "0.7.2", h.socket)
	for _, command := range []string{"ping", "touch"} {
		if _, code := c.run("", command, "box"); code != 0 {
			t.Errorf("%s: status %d", command, code)
		}
	}
	c.wants("", 3, "hi\n", "exec", "box", "--", "sh", "-c", "echo hi; echo err >&2; exit 3")
	c.wants("", 127, "", "exec", "box", "--", "no-such-program")
	c.wants(strings.Repeat("x", 4_000_000), 0, "4000000\n", "exec", "box", "--", "wc", "-c")
	c.wants("", 0, strings.Repeat("y\n", 5_000_000), "exec", "box", "--", "sh", "-c", "yes | head -c 10000000")
	tree := t.TempDir()
	for name, size := range map[string]int{"a": 1000, "d/b": 30 << 20} {
		path := filepath.Join(tree, "tree", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, bytes.Repeat([]byte("0123456789"), size/10), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c.wants("", 0, "", "cp", "--quiet", filepath.Join(tree, "tree"), "box:/tmp/")
	c.wants("", 0, "", "cp", "--quiet", "box:/tmp/tree", filepath.Join(tree, "back"))
	out, err := exec.CommandContext(t.Context(), "diff", "-r", filepath.Join(tree, "tree"), filepath.Join(tree, "back")).CombinedOutput()
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if err := together(6, func(n int) error {
		word := fmt.Sprint("word ", n)
		if out, code := c.run("", "exec", "box", "--", "echo", word); code != 0 || out != word+"\n" {
			return fmt.Errorf("status %d and %q", code, out)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}
