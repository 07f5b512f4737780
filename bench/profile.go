package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// profiled makes our agent, which must be built for it, write a CPU profile of a
// measure, and prints how often its threads were switched.
func (t task) profiled(dir string, what measure) error {
	before, err := t.switches(t)
	if err != nil {
		return err
	}
	if _, err := t.machine.do(t, "kill", "-USR1", "1"); err != nil {
		return err
	}
	start, failed := time.Now(), what.do(t)
	took := time.Since(start)
	if _, err := t.machine.do(t, "kill", "-USR2", "1"); err != nil {
		return errors.Join(failed, err)
	}
	after, err := t.switches(t)
	if err != nil {
		return errors.Join(failed, err)
	}
	fmt.Printf("%s: %v, user %d ticks, system %d ticks, %d voluntary and %d other switches\n",
		what.name, took.Round(time.Millisecond), after[0]-before[0], after[1]-before[1], after[2]-before[2], after[3]-before[3])
	name := strings.ReplaceAll(what.name, " ", "-") + ".pprof"
	return errors.Join(failed, t.takeProfile(filepath.Join(dir, name)))
}

// takeProfile waits for the profile in the machine's root.
func (t task) takeProfile(path string) error {
	root := filepath.Join(t.machine.dir, "root")
	for {
		if _, err := os.Stat(filepath.Join(root, "agentd.pprof.done")); err == nil {
			break
		}
		if err := pause(t, time.Millisecond); err != nil {
			return err
		}
	}
	b, err := os.ReadFile(filepath.Join(root, "agentd.pprof"))
	if err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o600) //nolint:gosec // G703: the user names the directory.
}

// switches returns the agent's user and system time, in ticks, and how often its
// threads have given up the processor and lost it.
func (m *machine) switches(ctx context.Context) (n [4]int, err error) {
	c, err := m.do(ctx, "sh", "-c", "cut -d ' ' -f 14,15 /proc/1/stat; cat /proc/1/task/*/status | grep ctxt")
	if err != nil {
		return n, err
	}
	lines := strings.Split(string(c.text), "\n")
	if _, err := fmt.Sscan(lines[0], &n[0], &n[1]); err != nil {
		return n, err
	}
	for _, line := range lines[1:] {
		var k int
		if _, err := fmt.Sscanf(line, "voluntary_ctxt_switches: %d", &k); err == nil {
			n[2] += k
		} else if _, err := fmt.Sscanf(line, "nonvoluntary_ctxt_switches: %d", &k); err == nil {
			n[3] += k
		}
	}
	return n, nil
}
