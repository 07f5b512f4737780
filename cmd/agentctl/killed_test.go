package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/agentd-go/agentd/internal/machines"
	"github.com/agentd-go/agentd/internal/vmtest"
	"github.com/agentd-go/agentd/sandbox"
)

// moments are those at which a tool is killed: each is recognized by what the
// machine has left on this host.
var moments = []struct {
	name string
	came func(m *machines.Machine, s machines.Status) bool
}{
	{"record", func(*machines.Machine, machines.Status) bool { return true }},
	{"starting", func(_ *machines.Machine, s machines.Status) bool { return s.Phase == machines.Starting }},
	{"virtiofsd", func(m *machines.Machine, _ machines.Status) bool { return hasProcess(m, "virtiofsd") }},
	{"qemu", func(m *machines.Machine, _ machines.Status) bool { return hasProcess(m, "qemu") }},
	{"running", func(_ *machines.Machine, s machines.Status) bool { return s.Phase == machines.Running }},
}

// hasProcess looks for a machine's process as ps(1) would.
func hasProcess(m *machines.Machine, name string) bool {
	for _, p := range processesOf(m) {
		if strings.Contains(p, name) {
			return true
		}
	}
	return false
}

// processesOf are the programs with a machine's mark in their environment.
func processesOf(m *machines.Machine) (all []string) {
	found, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range found {
		env, _ := os.ReadFile(filepath.Join(p, "environ"))
		if !bytes.Contains(env, []byte(machines.Variable+"="+m.Dir()+"\x00")) {
			continue
		}
		program, _ := os.ReadFile(filepath.Join(p, "comm"))
		all = append(all, strings.TrimSpace(string(program)))
	}
	return all
}

// TestKilledAtEveryMoment kills run, and the supervisor that start leaves, with
// SIGKILL at every moment of a boot: ps tells the truth then, and rm leaves
// nothing.
func TestKilledAtEveryMoment(t *testing.T) {
	vmtest.Require(t)
	t.Setenv(sandbox.AgentVariable, vmtest.Agent(t))
	for _, tool := range []string{"run", "start"} {
		for _, moment := range moments {
			t.Run(tool+"/"+moment.name, func(t *testing.T) {
				dir, err := os.MkdirTemp("", "store-") //nolint:usetesting // The path of a socket in it must be short.
				if err != nil {
					t.Fatal(err)
				}
				t.Setenv(machines.StateVariable, dir)
				t.Cleanup(func() { _ = os.RemoveAll(dir) })
				store, err := machines.Open(dir)
				if err != nil {
					t.Fatal(err)
				}
				cmd := exec.Command("agentctl", "run", "--name", "m", "--", "sleep", "1000")
				if tool == "start" {
					agentctl(t, "create", "m")
					cmd = exec.Command("agentctl", "start", "m")
				}
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				m := awaitMoment(t, store, moment.came)
				killTool(t, m, cmd)
				judge(t, store, m)
			})
		}
	}
}

func agentctl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("agentctl", args...).Output()
	if err != nil {
		exit, _ := errors.AsType[*exec.ExitError](err)
		t.Fatalf("agentctl %v: %v\n%s", args, err, exit.Stderr)
	}
	return string(out)
}

// patience is for a boot on a busy host.
const patience = 60 * time.Second

// awaitMoment returns the machine when its moment has come.
func awaitMoment(t *testing.T, store *machines.Store, came func(*machines.Machine, machines.Status) bool) *machines.Machine {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for ctx.Err() == nil {
		m, err := store.Get("m")
		if err != nil {
			continue // Not made yet.
		}
		s, err := m.Status()
		if err != nil {
			t.Fatal(err)
		}
		if came(m, s) {
			return m
		}
	}
	t.Fatal("the moment did not come")
	return nil
}

// killTool kills the tool, and the supervisor if that is another.
func killTool(t *testing.T, m *machines.Machine, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // It was killed.
	s, err := m.Status()
	if err != nil {
		t.Fatal(err)
	}
	if s.PID != 0 && s.PID != cmd.Process.Pid && s.Alive {
		if err := syscall.Kill(s.PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
}

// judge holds what ps says against what is there, and rm to its word.
func judge(t *testing.T, store *machines.Store, m *machines.Machine) {
	t.Helper()
	s, err := m.Status()
	if err != nil {
		t.Fatal(err)
	}
	if !s.Alive && s.Phase != machines.Dead && s.Phase != machines.Created {
		t.Errorf("nobody lives, and it is %s", s.Phase)
	}
	if got := agentctl(t, "ps", "-a"); !strings.Contains(got, "m ") {
		t.Errorf("ps -a:\n%s", got)
	}
	agentctl(t, "rm", "-f", "m")
	if left := processesOf(m); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	left, err := filepath.Glob(filepath.Join(store.Dir(), "machines", "*"))
	if hidden, _ := filepath.Glob(filepath.Join(store.Dir(), "machines", ".*")); err != nil || len(left)+len(hidden) > 0 {
		t.Errorf("left: %v %v", left, fmt.Sprint(hidden, err))
	}
}
