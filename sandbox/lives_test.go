package sandbox_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/sandbox"
)

// A machine whose kernel takes its root by itself has the agent in that root, where
// root can put something else: its next life starts all the same, and the host's file
// at the far end of a link stays what it was.
func TestLinkInTheAgentsPlace(t *testing.T) {
	for _, kernel := range kernels(t) {
		if !strings.HasPrefix(kernel, "krunfw-") {
			continue // The others start from an initramfs.
		}
		cfg := sandbox.Config{Kernel: kernel, Files: filepath.Join(t.TempDir(), "files")}
		precious := filepath.Join(t.TempDir(), "precious")
		if err := os.WriteFile(precious, []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, script := range []string{"ln -sf " + precious + " /init.krun", "test ! -L /init.krun"} {
			m, err := tryStart(t, cfg)
			if err != nil {
				t.Fatal(err)
			}
			say(t, m, script)
			if err := m.Close(); err != nil { // Its root is busy with the agent that has no name.
				t.Error(err)
			}
		}
		if b, err := os.ReadFile(precious); string(b) != "mine" || err != nil {
			t.Errorf("the host's file: %d bytes, %v", len(b), err)
		}
	}
}

// A machine that ends itself has ended well, also for who closes it in the moment
// between the end of its link and that of its processes.
func TestEndsItself(t *testing.T) {
	m := start(t, sandbox.Config{Kernel: kernels(t)[0]})
	err := m.Client().Command("reboot", "-f").Run()
	if _, ok := errors.AsType[*client.LinkError](err); !ok {
		t.Errorf("the command that ends the machine: %v", err)
	}
	stop(t, m)
}
