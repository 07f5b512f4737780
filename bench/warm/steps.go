package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/agentd-go/agentd/sandbox"
)

// steps of one machine's life.
var steps = []string{"ready", "first true", "second true", "end"}

// stepByStep prints the median of the processor's time that each step of a machine's life
// takes of the host, in this program and in QEMU.
func (o options) stepByStep(ctx context.Context, kernel string) error {
	took := map[string][]time.Duration{}
	for round := range o.rounds + 1 {
		for _, w := range ways {
			all, err := life(ctx, sandbox.Config{Kernel: kernel, Warm: w.config})
			if err != nil {
				return err
			}
			for i, d := range all {
				if name := w.name + steps[i]; round > 0 {
					took[name] = append(took[name], d)
				}
			}
		}
	}
	for _, step := range steps {
		cold, warm := median(took["cold"+step]), median(took["warm"+step])
		report(kernel, "processor's time: "+step, cold.Seconds(), warm.Seconds(), "s")
	}
	return nil
}

// life starts a machine, runs two commands and ends it; took has one element for each of
// the steps.
func life(ctx context.Context, cfg sandbox.Config) (took []time.Duration, err error) {
	last := used()
	step := func() {
		now := used()
		took, last = append(took, now-last), now
	}
	m, err := sandbox.Start(ctx, cfg)
	if err != nil {
		return nil, err
	}
	step()
	for range 2 {
		if err := m.Client().CommandContext(ctx, "true").Run(); err != nil {
			return nil, fmt.Errorf("%w; the machine's end: %w", err, m.Kill())
		}
		step()
	}
	err = m.Close()
	step()
	return took, err
}

// used is the processor's time of this process and of all that it has started, also of
// those that have ended and were waited for.
func used() (sum time.Duration) {
	for _, pid := range append(below(os.Getpid()), os.Getpid()) {
		sum += usedBy(pid)
	}
	return sum
}

// usedBy reads /proc/PID/stat (proc(5)): its own time and that of the children that it has
// waited for, in ticks.
func usedBy(pid int) time.Duration {
	const utime, cstime, tick = 11, 14, 10 * time.Millisecond // After the name in brackets.
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0 // It has ended: its parent is told its time.
	}
	words := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	ticks := 0
	for _, word := range words[utime : cstime+1] {
		n, _ := strconv.Atoi(word) // The kernel writes numbers.
		ticks += n
	}
	return time.Duration(ticks) * tick
}
