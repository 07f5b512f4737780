package main

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// deafness is how long the host does not read while a command floods it.
const deafness = 8 * time.Second

// settle is how long an agent may take to free unused memory.
const settle = 3 * time.Second

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
