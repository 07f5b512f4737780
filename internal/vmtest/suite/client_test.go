package suite

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/internal/vmtest"
	"github.com/agentd-go/agentd/sandbox"
)

// TestClient uses everything of package client but its commands, which the other
// behaviours use.
func TestClient(t *testing.T) {
	for _, combination := range vmtest.Combinations(t) {
		if vmtest.Version() == "" && combination.Configuration != sandbox.ByBootstrap {
			continue // How a machine was told what to do is nothing to the client.
		}
		t.Run(combination.Kernel, func(t *testing.T) {
			t.Parallel()
			m := vmtest.Start(t, combination.Config(sandbox.Config{MemoryMiB: 1024}))
			g := &guest{Machine: m, ctx: t.Context()}
			for _, part := range []struct {
				name string
				test func(*testing.T, *guest)
			}{
				{"fs", clientFS},
				{"files", clientFiles},
				{"volume", clientVolume},
				{"listing", clientListing},
				{"net", clientNet},
			} {
				t.Run(part.name, func(t *testing.T) { part.test(t, g) })
			}
			if err := m.Client().Err(); err != nil {
				t.Fatalf("the machine is gone: %v", err)
			}
		})
	}
}

// long reports whether trials take the sizes that they are meant to take.
func long() bool { return os.Getenv("AGENTD_LONG") == "1" }

// peer starts testdata/peer in the guest and waits until it listens.
func (g *guest) peer(t *testing.T, way, port string) {
	t.Helper()
	const program = "/root/peer"
	if _, err := g.Client().Stat(g.ctx, program); err != nil {
		g.install(t, program)
	}
	c := g.Client().Command(program, way, port)
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Kill()
		_ = c.Wait() // The signal is how it ends.
	})
	if _, err := out.Read(make([]byte, len("listening\n"))); err != nil {
		t.Fatal(err)
	}
}

// install builds the program for the guest and copies it there.
func (g *guest) install(t *testing.T, program string) {
	t.Helper()
	built := filepath.Join(t.TempDir(), "peer")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", built, "./testdata/peer")
	cmd.Env = vmtest.GoEnvironment()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the peer: %v\n%s", err, out)
	}
	from, err := os.Open(built)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = from.Close() }()
	const executable = 0o755
	to, err := g.Client().OpenFile(g.ctx, program, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, executable)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := to.ReadFrom(from); err != nil {
		t.Error(err)
	}
	if err := to.Close(); err != nil {
		t.Fatal(err)
	}
}

// dirs are a directory of each file system that a machine has without disks.
var dirs = []string{"/dev/shm", "/root"}

// scratch makes an empty directory and removes it with the test.
func (g *guest) scratch(t *testing.T, in string) string {
	t.Helper()
	c, dir := g.Client(), in+"/"+strings.NewReplacer("/", "-", " ", "-").Replace(t.Name())
	if err := c.Mkdir(g.ctx, dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.RemoveAll(context.WithoutCancel(g.ctx), dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// write writes small files by their names.
func write(t *testing.T, g *guest, c *client.Client, files map[string]string) {
	t.Helper()
	for name, data := range files {
		if err := c.WriteFile(g.ctx, name, []byte(data), 0o640); err != nil {
			t.Fatal(err)
		}
	}
}
