package boot

import (
	"errors"
	"fmt"
	"strings"

	"github.com/agentd-go/agentd/internal/guest/plan"
	"github.com/agentd-go/agentd/internal/guest/sys"
)

// An Init is the program that PID 1 becomes.
type Init struct {
	Path      string
	Argv, Env []string
	Dir       string // "" leaves the directory alone.
}

// handover finds the init and checks everything that can be checked before PID 1 becomes
// the init: a failure here still ends the boot as a whole.
func (m *Machine) handover(s plan.Handover) error {
	path, err := findInit(s)
	if err != nil {
		return err
	}
	if s.Cwd != "" {
		if err := sys.NotDirectory(s.Cwd); err != nil {
			return fmt.Errorf("directory of the init %s: %w", s.Cwd, err)
		}
	}
	if m.runsSystemd(path) {
		m.settleSystemd()
	}
	base := plan.Overlay(m.plan.Commands.Env, m.Env)
	m.Init = &Init{Path: path, Argv: append([]string{path}, s.Args...), Env: plan.Overlay(base, s.Env), Dir: s.Cwd}
	return nil
}

// findInit returns the first candidate that can be executed.
func findInit(s plan.Handover) (string, error) {
	var tried []error
	for _, path := range s.Candidates() {
		err := sys.NotExecutable(path)
		if err == nil {
			return path, nil
		}
		tried = append(tried, fmt.Errorf("%s: %w", path, err))
	}
	if s.Init == plan.AutoInit {
		return "", fmt.Errorf("no init found: %w", inLine(tried))
	}
	return "", fmt.Errorf("init %w", inLine(tried))
}

// inLine joins errors on one line: the console's log is read by lines.
func inLine(errs []error) error {
	if len(errs) == 1 {
		return errs[0]
	}
	words := make([]string, len(errs))
	for i, err := range errs {
		words[i] = err.Error()
	}
	return errors.New(strings.Join(words, "; "))
}

// The forms of an undo as text.
const (
	remainsMount = "mount:" // A mount with a path only.
	remainsPin   = "pin:"   // A mount with a descriptor too.
)

// Remains returns the undos for another process that takes the machine down. lines has a
// line for each file system on a disk or on the host. pins has the pins of those that have
// one, in the order of the lines. The kernel's own file systems are left to the init.
func (m *Machine) Remains() (lines []string, pins []*sys.Root) {
	for _, u := range m.undo {
		switch {
		case u.kernel:
		case u.pin != nil:
			lines = append(lines, remainsPin+u.target)
			pins = append(pins, u.pin)
		default:
			lines = append(lines, remainsMount+u.target)
		}
	}
	return lines, pins
}

// Inherit makes a Machine, for Down, from the undos of another process. next returns the
// pins in their order.
func Inherit(lines []string, next func() *sys.Root) (*Machine, error) {
	m := &Machine{}
	for _, line := range lines {
		if target, ok := strings.CutPrefix(line, remainsPin); ok {
			m.undo = append(m.undo, undo{target: target, pin: next()})
		} else if target, ok := strings.CutPrefix(line, remainsMount); ok {
			m.undo = append(m.undo, undo{target: target})
		} else {
			return nil, fmt.Errorf("remains %q: unknown form", line)
		}
	}
	return m, nil
}
