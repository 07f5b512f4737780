// Command warm measures starts from a template beside boots, in one run and by turns:
//
//	go run ./bench/warm -agentctl bin/agentctl
//
// For each kernel of the cache it prints the median time of "agentctl run -- true", and of
// the host's processors that it has used, which other work on the host changes less,
// the time until many machines at once are ready, and what each of them takes of the
// host's memory (PSS) at rest. A target is a part of the cold figure. With -steps it prints
// the processor's time of the steps of one start.
//
// The program needs an agent: build it with the tag embed_agentd after "make build", or
// name one by AGENTCTL_AGENTD.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/agentd-go/agentd/sandbox"
)

// options of one run.
type options struct {
	agentctl     string
	kernels      string
	rounds, many int
	steps        bool
}

func main() {
	var o options
	flag.StringVar(&o.agentctl, "agentctl", "bin/agentctl", "the program to measure")
	flag.StringVar(&o.kernels, "kernels", "", "names of kernels, with commas (default: all of the cache)")
	flag.IntVar(&o.rounds, "rounds", 10, "starts of each kind")
	flag.IntVar(&o.many, "many", 20, "machines at once; 0 for none")
	flag.BoolVar(&o.steps, "steps", false, "print the processor's time of each step of a start instead")
	flag.Parse()
	if err := o.run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "warm:", err)
		os.Exit(1)
	}
}

func (o options) run(ctx context.Context) error {
	names, err := o.names()
	if err != nil {
		return err
	}
	for _, kernel := range names {
		if o.steps {
			if err := o.stepByStep(ctx, kernel); err != nil {
				return fmt.Errorf("kernel %s: %w", kernel, err)
			}
			continue
		}
		if err := errors.Join(o.single(ctx, kernel), o.atOnce(ctx, kernel)); err != nil {
			return fmt.Errorf("kernel %s: %w", kernel, err)
		}
	}
	return nil
}

func (o options) names() (names []string, err error) {
	if o.kernels != "" {
		return strings.Split(o.kernels, ","), nil
	}
	cache, err := sandbox.OpenCache("")
	if err != nil {
		return nil, err
	}
	all, err := cache.Kernels()
	for _, k := range all {
		if k.Platform == "linux/"+runtime.GOARCH {
			names = append(names, k.Name)
		}
	}
	return names, err
}

// ways of starting, by the flag of agentctl and the configuration.
var ways = []struct {
	name, flag string
	config     sandbox.WarmStart
}{{"cold", "--cold", sandbox.WarmNone}, {"warm", "--warm", sandbox.WarmTry}}

// single measures one machine after the other, by turns. The first pair makes what is
// made once, and does not count.
func (o options) single(ctx context.Context, kernel string) error {
	took, used := map[string][]time.Duration{}, map[string][]time.Duration{}
	for round := range o.rounds + 1 {
		for _, w := range ways {
			cmd := exec.CommandContext(ctx, o.agentctl, "run", "--quiet", w.flag, "--kernel", kernel, "--", "true")
			start := time.Now()
			out, err := cmd.CombinedOutput()
			if err != nil || len(out) > 0 {
				return fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, out)
			}
			if round > 0 {
				took[w.name] = append(took[w.name], time.Since(start))
				used[w.name] = append(used[w.name], cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime())
			}
		}
	}
	cold, warm := median(took["cold"]), median(took["warm"])
	report(kernel, "agentctl run -- true, median", cold.Seconds(), warm.Seconds(), "s")
	report(kernel, "its processor's time", median(used["cold"]).Seconds(), median(used["warm"]).Seconds(), "s")
	return nil
}

func median(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2]
}

func report(kernel, what string, cold, warm float64, unit string) {
	fmt.Printf("%-24s %-40s cold %8.3f %s  warm %8.3f %s  %.2f\n", kernel, what, cold, unit, warm, unit, warm/cold)
}

// atOnce starts many machines at the same time, each way once.
func (o options) atOnce(ctx context.Context, kernel string) error {
	if o.many == 0 {
		return nil
	}
	var ready, each [2]float64
	for i, w := range ways {
		var err error
		if ready[i], each[i], err = o.crowd(ctx, sandbox.Config{Kernel: kernel, Warm: w.config}); err != nil {
			return err
		}
	}
	report(kernel, fmt.Sprintf("%d at once, all ready", o.many), ready[0], ready[1], "s")
	report(kernel, "memory (PSS) of each further machine", each[0], each[1], "MiB")
	return nil
}

// restful is how long machines do nothing before their memory is counted.
const restful = 2 * time.Second

// crowd returns how long the machines took until all were ready, in seconds, and what
// each but the first has added to the host's memory, in MiB.
func (o options) crowd(ctx context.Context, cfg sandbox.Config) (ready, each float64, err error) {
	first, err := sandbox.Start(ctx, cfg)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, first.Kill()) }()
	<-time.After(restful)
	one := memory()
	machines := make([]*sandbox.Machine, o.many)
	failures := make([]error, o.many)
	start := time.Now()
	var all sync.WaitGroup
	for i := range machines {
		all.Go(func() { machines[i], failures[i] = insist(ctx, cfg) })
	}
	all.Wait()
	ready = time.Since(start).Seconds()
	defer func() {
		for _, m := range machines {
			if m != nil {
				err = errors.Join(err, m.Kill())
			}
		}
	}()
	if err := errors.Join(failures...); err != nil {
		return 0, 0, err
	}
	for _, m := range machines {
		if why := m.Cold(); cfg.Warm == sandbox.WarmTry && why != nil {
			return 0, 0, why
		}
	}
	<-time.After(restful)
	return ready, (memory() - one) / float64(o.many), nil
}

// attempts are for a kernel that gives up on a busy host before it has a console, as the
// reference's does now and then when many boot at once.
const attempts = 3

// insist starts a machine, and says so where that takes more than one attempt.
func insist(ctx context.Context, cfg sandbox.Config) (m *sandbox.Machine, err error) {
	for range attempts {
		if m, err = sandbox.Start(ctx, cfg); err == nil {
			return m, nil
		}
		line, _, _ := strings.Cut(err.Error(), "\n")
		fmt.Fprintf(os.Stderr, "warm: once more (%s, %q): %s\n", cfg.Kernel, cfg.Warm, line)
	}
	return nil, err
}

// memory is the PSS of all processes below this one, in MiB.
func memory() (mib float64) {
	for _, pid := range below(os.Getpid()) {
		f, err := os.Open(filepath.Join("/proc", strconv.Itoa(pid), "smaps_rollup"))
		if err != nil {
			continue // It has ended.
		}
		for lines := bufio.NewScanner(f); lines.Scan(); {
			var kib int
			if n, _ := fmt.Sscanf(lines.Text(), "Pss: %d kB", &kib); n == 1 {
				mib += float64(kib) / 1024
			}
		}
		_ = f.Close()
	}
	return mib
}

// below lists the processes that a process has started, and theirs.
func below(pid int) (all []int) {
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return nil
	}
	for _, name := range lists {
		b, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		for word := range strings.FieldsSeq(string(b)) {
			if child, err := strconv.Atoi(word); err == nil {
				all = append(append(all, child), below(child)...)
			}
		}
	}
	return all
}
