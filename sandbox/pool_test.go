package sandbox_test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/agentd-go/agentd/sandbox"
)

func TestPoolIsChecked(t *testing.T) {
	for want, cfg := range map[string]sandbox.PoolConfig{
		"0 spares":         {},
		"257 spares":       {Spares: 257},
		"Files /f:":        {Spares: 1, Machine: sandbox.Config{Files: "/f"}},
		"Socket /s:":       {Spares: 1, Machine: sandbox.Config{Socket: "/s"}},
		"Upper.Disk /u:":   {Spares: 1, Machine: sandbox.Config{Upper: sandbox.Upper{Disk: "/u"}}},
		"interface tap0:":  {Spares: 1, Machine: sandbox.Config{Taps: []sandbox.Tap{{Name: "tap0"}}}},
		"disk /d:":         {Spares: 1, Machine: sandbox.Config{Disks: []sandbox.Disk{{Path: "/d"}}}},
		"root: stat /none": {Spares: 1, Machine: sandbox.Config{Root: "/none"}},
	} {
		p, err := sandbox.NewPool(cfg)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", cfg, err, want)
		}
		if p != nil {
			t.Errorf("%s: there is a pool", want)
		}
	}
}

// Machines of a pool are ready, their own, and go on when the pool is closed.
func TestPool(t *testing.T) {
	kernels(t)
	cfg := warm(t, kernelWithoutModules(t))
	p, err := sandbox.NewPool(sandbox.PoolConfig{Machine: cfg, Spares: 1, Log: func(err error) { t.Error(err) }})
	check(t, err)
	first, err := p.Get(t.Context())
	if err != nil {
		_ = p.Close()
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, first) })
	for deadline := time.Now().Add(time.Minute); p.Ready() == 0 && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond) // There is no event: that is a pool's purpose.
	}
	start := time.Now()
	second, err := p.Get(t.Context())
	if err != nil || time.Since(start) > time.Second {
		t.Errorf("a spare after %v, %v", time.Since(start), err)
	}
	check(t, p.Close())
	if err == nil {
		t.Cleanup(func() { stop(t, second) })
	}
	const id = "cat /proc/sys/kernel/random/boot_id; echo >/mine"
	if a, b := output(t, first, id), output(t, second, "ls /mine 2>/dev/null; "+id); a == b || filepath.IsAbs(b) {
		t.Errorf("two machines of a pool: %q, %q", a, b)
	}
}
