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

// If the kernel mounts its root by itself, the agent is in that root, and root in the
// guest can replace it. The next life starts nevertheless, and a host file that a link
// points to is unchanged.
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

// A machine that ends by itself has ended in order, even if it is closed between the
// end of its link and the end of its processes.
func TestEndsItself(t *testing.T) {
	m := start(t, sandbox.Config{Kernel: kernels(t)[0]})
	err := m.Client().Command("reboot", "-f").Run()
	if _, ok := errors.AsType[*client.LinkError](err); !ok {
		t.Errorf("the command that ends the machine: %v", err)
	}
	stop(t, m)
}
