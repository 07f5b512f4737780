package vmtest

import (
	"bytes"
	"cmp"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/agentd-go/agentd/internal/hooks"
	"github.com/agentd-go/agentd/sandbox"
)

// endDeadline is how long a machine may take to end by itself when its host has
// closed the port: the agent's own 1 s of grace and 5 s for its file systems,
// and twice as much again for software emulation on a busy host.
const endDeadline = 20 * time.Second

// faults are texts that a console must not show: the fatal messages of a kernel or a Go
// program.
var faults = []string{"Kernel panic", "BUG:", "Oops:", "goroutine ", "Out of memory"}

// A Machine is a machine of a test.
type Machine struct {
	*sandbox.Machine
	t       *testing.T
	foreign bool

	mu      sync.Mutex
	ended   bool     // It has ended by itself, as the test expects.
	allowed []string // Faults that the test has caused.
}

// Start starts a machine with the agent under test. The machine must end by
// itself when the test is over.
func Start(t *testing.T, cfg sandbox.Config) *Machine {
	t.Helper()
	Require(t)
	inner, err := sandbox.Start(t.Context(), Config(t, cfg))
	if err != nil {
		t.Fatal(err)
	}
	m := &Machine{Machine: inner, t: t, foreign: Version() != ""}
	t.Cleanup(m.finish)
	return m
}

// Config completes cfg with the agent under test. The machine boots unless cfg says how it
// starts: the suites are about boots too, and a template for each of their sizes would push
// the user's out of the cache.
func Config(t *testing.T, cfg sandbox.Config) sandbox.Config {
	t.Helper()
	if cfg.Agent == "" {
		cfg.Agent = Agent(t)
	}
	cfg.Platform, cfg.Warm = cmp.Or(cfg.Platform, Platform()), cmp.Or(cfg.Warm, sandbox.WarmNone)
	hooks.Of(&cfg).Foreign = Version() != ""
	return cfg
}

// AwaitEnd waits for the machine to end by itself, which it must do without
// being asked, and returns how long that took.
func (m *Machine) AwaitEnd() time.Duration {
	m.t.Helper()
	start := time.Now()
	select {
	case <-m.Done():
		m.mu.Lock()
		m.ended = true
		m.mu.Unlock()
	case <-time.After(endDeadline):
		m.t.Errorf("the machine has not ended by itself after %v", endDeadline)
	}
	return time.Since(start)
}

// Allow accepts a fault on the console that the test itself causes.
func (m *Machine) Allow(faults ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.allowed = append(m.allowed, faults...)
}

// finish ends the machine and checks its end.
func (m *Machine) finish() {
	m.t.Helper()
	if err := m.close(); err != nil {
		m.t.Errorf("end of the machine: %v", err)
	}
	console := strings.ReplaceAll(string(m.Console()), "\r", "")
	for _, fault := range faults {
		if !slices.Contains(m.allowed, fault) && strings.Contains(console, fault) && !m.foreign {
			m.t.Errorf("the console tells of a fault: %q", fault)
		}
	}
	if m.t.Failed() {
		m.t.Logf("end of the console:\n%s\nto repeat the machine by hand:\n%s", lastLines(console), m.RepeatScript())
	}
}

func (m *Machine) close() error {
	m.mu.Lock()
	ended := m.ended
	m.mu.Unlock()
	if m.foreign || ended {
		// The published agents switch the machine off, which a monitor without
		// ACPI does not see: such a machine cannot end by itself.
		return m.Kill()
	}
	err := m.Close()
	if err != nil {
		err = errors.Join(err, m.Client().Err())
	}
	return err
}

// lastLines returns about a screen.
func lastLines(console string) string {
	const lines = 40
	all := bytes.Split(bytes.TrimSpace([]byte(console)), []byte("\n"))
	return string(bytes.Join(all[max(0, len(all)-lines):], []byte("\n")))
}
