package suite

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/internal/vmtest"
	"github.com/agentd-go/agentd/sandbox"
)

// pingBound is how late the agent may answer beside a command that takes all it can.
const pingBound = 100 * time.Millisecond

// answers are the times of pings.
type answers []time.Duration

// check allows one late answer of ten: the host of a test may be as busy as its guest.
func (a answers) check(t *testing.T) error {
	t.Helper()
	slices.Sort(a)
	t.Logf("%d pings: median %v, 99 of 100 %v, the longest %v", len(a), a[len(a)/2], a[len(a)*99/100], a[len(a)-1])
	if most := a[len(a)*9/10]; most > pingBound {
		return fmt.Errorf("one of ten pings took %v, the longest %v; want %v", most, a[len(a)-1], pingBound)
	}
	return nil
}

// A command is bounded with all that descends from it: its memory and its processes. The
// kernel's memory killer is named, and neither the agent nor other commands notice.
func TestLimitsOfACommand(t *testing.T) {
	vmtest.Require(t)
	ownOnly(t, "limits of a command are an extension")
	eachKernel(t, func(t *testing.T, kernel string) {
		t.Helper()
		m := vmtest.Start(t, sandbox.Config{Kernel: kernel})
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		g := &guest{Machine: m, ctx: ctx}
		if have, err := g.say("cat /sys/fs/cgroup/cgroup.controllers"); err != nil || !strings.Contains(have, "memory") {
			t.Logf("the kernel %s has the controllers %q, %v", kernel, have, err)
			checkWithout(t, g)
			return
		}
		type trial struct {
			name  string
			check func(*testing.T, *guest) error
		}
		trials := []trial{{"memory", memoryKilled}, {"processes", forkBomb}, {"tree", treeKilled}, {"figures", figures}}
		if os.Getenv("AGENTD_LONG") == "1" { // A busy host needs minutes for it.
			trials = append(trials, trial{"all memory", allMemory}, trial{"endless", endless})
		}
		for _, c := range trials {
			t.Run(c.name, func(t *testing.T) { verdict(t, c.name, c.check(t, g)) })
		}
	})
}

// checkWithout: where the kernel lacks a controller, the request is refused and named.
func checkWithout(t *testing.T, g *guest) {
	t.Helper()
	c := g.cmd("true")
	c.Resources.Memory = 64 << 20
	if err := c.Run(); err == nil || !strings.Contains(err.Error(), "memory") {
		t.Errorf("error %v, want one that names the memory controller", err)
	}
}

// withNeighbour runs a command beside a neighbour that counts, and pings all the time.
func withNeighbour(g *guest, c *client.Cmd) (pings answers, run, neighbour error) {
	ctx, stop := context.WithCancel(g.ctx)
	defer stop()
	n := g.Client().CommandContext(ctx, "sh", "-c", "while sleep 0.1; do echo; done")
	var heard atomic.Int64
	n.Stdout = counting{&heard}
	if err := n.Start(); err != nil {
		return nil, nil, err
	}
	done := make(chan error, 1)
	go func() { done <- c.Run() }()
	for {
		took, err := g.Client().Ping(ctx)
		if err != nil {
			return nil, nil, err
		}
		pings = append(pings, took)
		select {
		case run = <-done:
			before := heard.Load()
			for start := time.Now(); heard.Load() == before; {
				if time.Since(start) > patience {
					return pings, run, errors.New("the neighbour stands still")
				}
				if _, err := g.Client().Ping(ctx); err != nil {
					return pings, run, err
				}
			}
			return pings, run, n.Signal(9)
		default:
		}
	}
}

// counting counts what is written to it.
type counting struct{ n *atomic.Int64 }

func (c counting) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return len(p), nil
}

func memoryKilled(t *testing.T, g *guest) error {
	t.Helper()
	const bound = 64 << 20
	c := g.cmd("tail", "/dev/zero") // It keeps the last line, which has no end.
	c.Resources.Memory = bound
	pings, err, neighbour := withNeighbour(g, c)
	if neighbour != nil {
		return neighbour
	}
	exit, ok := errors.AsType[*client.ExitError](err)
	u := c.Usage()
	switch {
	case !ok || exit.Signal != 9 || u == nil:
		return fmt.Errorf("ended with %w and usage %+v, want signal 9", err, u)
	case u.OOMKills != 1 || len(u.Victims) != 1 || u.Victims[0].Name != "tail" || u.Victims[0].PID != c.PID():
		return fmt.Errorf("usage %+v, want one victim: tail, %d", u, c.PID())
	case u.MemoryPeak < bound/2 || u.MemoryPeak > bound+bound/8 || u.User+u.System == 0:
		return fmt.Errorf("usage %+v", u)
	}
	return pings.check(t)
}

// allMemory: without limits the machine's own memory is the bound. The agent keeps what it
// needs to answer.
func allMemory(t *testing.T, g *guest) error {
	t.Helper()
	g.Allow("Out of memory")
	hungry := g.sh(`for i in 1 2 3 4; do dd if=/dev/zero of=/dev/null bs=150M count=2 & done 2>/dev/null; wait
		dmesg | grep -q 'Out of memory: Killed process .*(dd)'`)
	pings, err, neighbour := withNeighbour(g, hungry)
	if err = cmp.Or(err, neighbour); err != nil {
		return err
	}
	return pings.check(t)
}

func forkBomb(t *testing.T, g *guest) error {
	t.Helper()
	c := g.sh("i=0; while [ $i -lt 400 ]; do sleep 100 & i=$((i+1)); done 2>/dev/null; echo $i; kill -9 0")
	c.Resources.PIDs = 32
	pings, err, neighbour := withNeighbour(g, c)
	exit, ok := errors.AsType[*client.ExitError](err)
	switch {
	case neighbour != nil:
		return neighbour
	case !ok:
		return fmt.Errorf("ended with %w", err)
	case exit.Usage == nil || exit.Usage.OOMKills != 0:
		return fmt.Errorf("usage %+v", exit.Usage)
	}
	return pings.check(t)
}

// endless: a fork bomb that goes on within its bound, and commands that allocate for ever, one
// after the other.
func endless(t *testing.T, g *guest) error {
	t.Helper()
	bomb := g.sh("bomb() { bomb | bomb & }; trap '' TERM; bomb 2>/dev/null; sleep 1000")
	bomb.Resources.PIDs = 64
	if err := bomb.Start(); err != nil {
		return err
	}
	for range 5 {
		if err := memoryKilled(t, g); err != nil {
			return err
		}
	}
	if err := bomb.KillTree(); err != nil {
		return err
	}
	if exit, ok := errors.AsType[*client.ExitError](bomb.Wait()); !ok {
		return fmt.Errorf("the fork bomb ended with %w", exit)
	}
	return nil
}

// treeKilled: the end of a command's tree takes a daemon that left its session.
func treeKilled(_ *testing.T, g *guest) error {
	c := g.sh("setsid sh -c 'setsid sleep 12345 & echo; sleep 12345'; sleep 12345")
	out, err := c.StdoutPipe()
	if err != nil {
		return err
	}
	if err := c.Start(); err != nil {
		return err
	}
	if _, err := out.Read(make([]byte, 1)); err != nil {
		return err
	}
	if err := c.KillTree(); err != nil {
		return err
	}
	if err := c.Wait(); err == nil {
		return errors.New("ended well")
	}
	left, err := g.say("ps -o args | grep -c '^sleep 12345' || true")
	if err != nil || strings.TrimSpace(left) != "0" {
		return fmt.Errorf("%q of the tree live, %w", left, err)
	}
	return nil
}

// figures: a command's end says what it took, and its processor's time is bounded.
func figures(_ *testing.T, g *guest) error {
	c := g.sh("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; dd if=/dev/zero of=/dev/shm/figures bs=1M count=8 2>/dev/null; rm /dev/shm/figures")
	c.ReportUsage = true
	if err := c.Run(); err != nil {
		return err
	}
	if u := c.Usage(); u == nil || u.User == 0 || u.MemoryPeak < 8<<20 || u.OOMKills != 0 {
		return fmt.Errorf("usage %+v", u)
	}
	slow := g.sh("cat /sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)/cpu.max")
	slow.Resources.CPUs = 0.5
	out, err := slow.Output()
	if err != nil || strings.TrimSpace(string(out)) != "50000 100000" {
		return fmt.Errorf("cpu.max is %q, %w", out, err)
	}
	return nil
}
