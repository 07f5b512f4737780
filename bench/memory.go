package main

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"
)

// deafness is how long the host does not read while a command floods it.
const deafness = 8 * time.Second

// An agent frees unused memory within settle after its last activity. On a host with
// other work the guest's clock may run on while the agent waits for a processor, so an
// agent has several tries; a read of the memory is an activity, so the pause is whole.
const (
	settle      = 3 * time.Second
	settleTries = 3
)

// memory reads a line of /proc/1/status, in MiB.
func (m *machine) memory(ctx context.Context, key string) (float64, error) {
	c, err := m.do(ctx, "cat", "/proc/1/status")
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(c.text), key+":")
	var kib float64
	if _, err := fmt.Sscanf(rest, "%f kB", &kib); err != nil {
		return 0, fmt.Errorf("%s: %w in %q", key, err, c.text)
	}
	return kib / 1024, nil
}

// forgetPeak lets VmHWM begin anew, so that it tells the peak of what comes next: before
// that, input which a child took late may have been kept in memory, and more on a busy host.
func (m *machine) forgetPeak(ctx context.Context) error {
	_, err := m.do(ctx, "sh", "-c", "echo 5 >/proc/1/clear_refs")
	return err
}

// settled returns what is resident after the work, the least of several tries.
func (m *machine) settled(ctx context.Context) (least float64, err error) {
	least = math.Inf(1)
	for range settleTries {
		if err := pause(ctx, settle); err != nil {
			return 0, err
		}
		v, err := m.memory(ctx, "VmRSS")
		if err != nil {
			return 0, err
		}
		least = min(least, v)
	}
	return least, nil
}

// deafHost lets a command flood a host that does not read, and then reads everything.
func deafHost(ctx context.Context, m *machine, size int64) error {
	c, err := m.begin("dd", "if=/dev/zero", "bs=1M", "count="+mebi(size))
	if err != nil {
		return err
	}
	for c.stdout.Load() == 0 {
		if err := pause(ctx, time.Millisecond); err != nil {
			return err
		}
	}
	release := m.hold()
	err = pause(ctx, deafness)
	release()
	if err != nil {
		return err
	}
	if err := c.wait(ctx); err != nil {
		return err
	}
	if got := c.stdout.Load(); got != size {
		return fmt.Errorf("flood: %w: %d of %d arrived", errLost, got, size)
	}
	return nil
}
