package vmtest

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/agentd-go/agentd/internal/hooks"
	"github.com/agentd-go/agentd/sandbox"
)

// A Shared is one machine for all examples of a package, which have no T to start
// one with. It boots when the first of them asks for it. The zero value is ready.
type Shared struct {
	Config sandbox.Config

	mu      sync.Mutex
	dir     string
	machine *sandbox.Machine
}

// Main is [Main] for a package with such examples. Where no machine can run, it
// leaves them out and says why, or fails if AGENTD_REQUIRE_MACHINES=1.
func (s *Shared) Main(m *testing.M) int {
	if _, err := examples(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return run(func() int { return max(m.Run(), s.close()) })
}

// MainWithExamples is [Main] for a package with examples that boot machines of their
// own, with the agent of this tree. Where none can run, it leaves them out as
// [Shared.Main] does.
func MainWithExamples(m *testing.M) int {
	can, err := examples()
	if err == nil && can {
		var program string
		if program, err = agent(); err == nil {
			err = os.Setenv(sandbox.AgentVariable, program)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return run(m.Run)
}

// examples finds out whether examples that need machines can run, and leaves them
// out where they cannot, which is an error where machines are required.
func examples() (can bool, err error) {
	flag.Parse()
	missing := possible()
	switch {
	case missing == nil:
		return true, nil
	case os.Getenv(required) == "1":
		return false, fmt.Errorf("no machine can run here: %w", missing)
	}
	fmt.Fprintln(os.Stderr, "no machine can run here:", missing)
	return false, withoutExamples()
}

func possible() error {
	if err := sandbox.Supported(); err != nil {
		return err
	}
	kernels, err := allKernels()
	if err == nil && len(kernels) == 0 {
		err = errors.New("no kernel in the cache")
	}
	return err
}

// withoutExamples adds to what the caller of go test leaves out.
func withoutExamples() error {
	const examples = "^Example"
	skip := flag.Lookup("test.skip")
	if skip.Value.String() == "" {
		return skip.Value.Set(examples)
	}
	return skip.Value.Set(skip.Value.String() + "|" + examples)
}

// Socket is where clients reach the machine.
func (s *Shared) Socket() (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.machine == nil {
		if err := s.startLocked(); err != nil {
			return "", err
		}
	}
	return s.Config.Socket, nil
}

func (s *Shared) startLocked() error {
	program, err := agent()
	if err != nil {
		return err
	}
	if s.dir, err = os.MkdirTemp("", "shared-"); err != nil {
		return err
	}
	s.Config.Agent, hooks.Of(&s.Config).Foreign = program, Version() != ""
	s.Config.Socket = filepath.Join(s.dir, "agent.sock")
	s.machine, err = sandbox.Start(context.Background(), s.Config)
	return err
}

// close ends the machine, if there is one, and returns the status to exit with.
func (s *Shared) close() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.machine == nil {
		return 0
	}
	if err := errors.Join(s.machine.Close(), os.RemoveAll(s.dir)); err != nil {
		fmt.Fprintln(os.Stderr, "end of the examples' machine:", err)
		return 1
	}
	return 0
}
