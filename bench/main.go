package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/agentd-go/agentd/internal/image"
	"github.com/agentd-go/agentd/internal/vmm"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1) //nolint:gocritic // Nothing is left for the deferred call.
	}
}

// options are the command's flags.
type options struct {
	plan
	cpus  int
	boots int // Of each agent and load; 0 for the measures of a machine that runs.
	// Batches of each operation that are counted by the emulator's plug-in; 0 for measures.
	batches int
	agents  []string
	only    []string
	short   bool
	repeat  int

	architecture string // Of the machines, by Go's name.

	profile string // A directory for CPU profiles of ours.
}

// everyone lists the agents of an architecture.
var everyone = map[string]string{"amd64": ourName + ",0.5.5,0.6.14,0.7.2", "arm64": ourName + "," + armBase}

func parse() (o options) {
	size := flag.Int64("size", 64, "MiB of each stream")
	flood := flag.Int64("flood", 256, "MiB that a host which does not read is sent")
	flag.IntVar(&o.small, "files", 2000, "small files")
	flag.IntVar(&o.rounds, "rounds", 3, "machines of each agent")
	flag.IntVar(&o.cpus, "cpus", 1, "virtual processors")
	flag.IntVar(&o.boots, "boots", 0, "measure this many boots of each agent, plain and full, and nothing else")
	flag.IntVar(&o.batches, "count", 0, "count instructions, switches and system calls, in this many batches of each operation, and measure nothing")
	flag.IntVar(&o.repeat, "repeat", 1, "how often each machine does each measure in a round")
	platform := flag.String("platform", "linux/"+runtime.GOARCH, "of the machines")
	agents := flag.String("agents", "", "the agents to measure; NAME=FILE is an agent in a file (default: ours and the published ones of the platform)")
	only := flag.String("only", "", "measures, of all; each begins with one of these words")
	flag.BoolVar(&o.short, "short", false, "ours alone, once, and little; fail on what is not noise")
	flag.StringVar(&o.profile, "profile", "", "an existing directory for CPU profiles of ours, one for each measure; with -count for lists of its functions")
	flag.Parse()
	o.size, o.poured = *size<<20, *flood<<20
	o.architecture = strings.TrimPrefix(*platform, "linux/")
	o.agents = strings.Split(cmp.Or(*agents, everyone[o.architecture]), ",")
	if *only != "" {
		o.only = strings.Split(*only, ",")
	}
	if o.short {
		o.agents, o.rounds, o.size, o.poured = []string{ourName}, 1, 16<<20, 64<<20
	}
	return o
}

func run(ctx context.Context) error {
	o := parse()
	dir, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	r, agents, err := prepare(ctx, dir, o)
	if err != nil {
		return err
	}
	r.print()
	if o.batches > 0 {
		return r.count(ctx, o, agents)
	}
	if o.boots > 0 {
		return r.boots(ctx, o, agents)
	}
	res := newResults(base(o.architecture))
	for i := 0; i < o.rounds && err == nil; i++ {
		// Nobody is always the first to boot.
		turned := append(slices.Clone(agents[i%len(agents):]), agents[:i%len(agents)]...)
		err = r.round(ctx, o, turned, res)
	}
	var report strings.Builder
	res.print(&report, agents)
	report.WriteByte('\n')
	broken := res.judge(&report)
	fmt.Print(report.String())
	if len(broken) > 0 && o.short {
		err = errors.Join(err, errors.New("not noise:\n"+strings.Join(broken, "\n")))
	}
	return err // What was measured until then is printed all the same.
}

// prepare makes what all machines need.
func prepare(ctx context.Context, dir string, o options) (*rig, []*opponent, error) {
	cache, err := image.Open("")
	if err != nil {
		return nil, nil, err
	}
	kernel, err := referenceKernel(cache, o.architecture)
	if err != nil {
		return nil, nil, err
	}
	agents, err := opponents(ctx, cache, dir, o)
	if err != nil {
		return nil, nil, err
	}
	tool, err := buildGuest(ctx, dir, o.architecture, "./bench/guest", "", false)
	return &rig{architecture: vmm.Architecture(o.architecture), cache: cache, kernel: kernel, dir: dir, cpus: o.cpus, tool: tool}, agents, err
}

// print says what the figures depend on, as benchstat reads it.
func (r *rig) print() {
	accel, _ := vmm.DetectAccel(r.architecture)
	for _, line := range [][2]string{
		{"goos", runtime.GOOS},
		{"goarch", runtime.GOARCH},
		{"host-kernel", output("uname", "-r")},
		{"host-cores", strconv.Itoa(runtime.NumCPU())},
		{"qemu", r.qemuVersion()},
		{"guest-arch", string(r.architecture)},
		{"accelerator", accel.String()},
		{"guest-kernel", r.kernel.Release},
		{"guest-cpus", strconv.Itoa(r.cpus)},
		{"guest-memory", fmt.Sprintf("%d MiB", memoryMiB)},
	} {
		fmt.Printf("%s: %s\n", line[0], line[1])
	}
}

func (r *rig) qemuVersion() string {
	path, err := vmm.FindQEMU(r.architecture)
	if err != nil {
		return err.Error()
	}
	return output(path, "--version")
}

// output is the first line that a program prints.
func output(name string, args ...string) string {
	b, err := exec.CommandContext(context.Background(), name, args...).Output()
	if err != nil {
		return "unknown"
	}
	line, _, _ := strings.Cut(string(b), "\n")
	return line
}

// round boots a machine for each agent and measures them in alternation.
func (r *rig) round(ctx context.Context, o options, agents []*opponent, res *results) (err error) {
	var all []*machine
	defer func() {
		for _, m := range all {
			err = errors.Join(err, m.end())
		}
	}()
	for _, a := range agents {
		m, err := r.boot(ctx, a)
		if err != nil {
			res.failures = append(res.failures, failure{a.name, "boot", err})
			continue
		}
		all = append(all, m)
		res.add("init_time_ns", a.name, float64(m.ready.InitTimeNS)/1e6)
		res.add("ready", a.name, float64(m.ready.ReadyTimeNS)/1e6)
		res.add("binary", a.name, float64(len(a.binary))/(1<<20))
		if err := m.vm.Stop(ctx); err != nil {
			return err
		}
	}
	for _, what := range measures {
		if !o.wants(what) {
			continue
		}
		for range o.repeat {
			for i, m := range all {
				if all[i], err = r.once(ctx, o, what, m, res); err != nil {
					return err
				}
			}
			// The first machine is the last one in the next repetition.
			all = append(all[1:], all[0])
		}
	}
	if o.short || len(o.only) > 0 && !slices.Contains(o.only, "port") {
		return nil
	}
	out, in, err := r.portLimit(ctx, 2*o.size)
	res.out, res.in = append(res.out, out), append(res.in, in)
	return err
}

func (o options) wants(m measure) bool {
	if o.short && !m.brief {
		return false
	}
	return len(o.only) == 0 || slices.ContainsFunc(o.only, func(word string) bool { return strings.HasPrefix(m.name, word) })
}

// once lets one machine do one measure. A machine that cannot any more is
// replaced.
func (r *rig) once(ctx context.Context, o options, what measure, m *machine, res *results) (*machine, error) {
	if err := m.vm.Continue(ctx); err != nil {
		return m, err
	}
	limited, cancel := context.WithTimeout(ctx, measureDeadline)
	defer cancel()
	t := task{limited, m, o.plan, res}
	do := what.do
	if o.profile != "" && m.agent.name == ourName {
		do = func(t task) error { return t.profiled(o.profile, what) }
	}
	spent := m.spent()
	failed := do(t)
	res.add("cpu: "+what.name, m.agent.name, millis(m.spent()-spent))
	if failed != nil {
		if ctx.Err() != nil {
			return m, ctx.Err()
		}
		fmt.Fprintf(os.Stderr, "bench: %s: %s: %v\n", m.agent.name, what.name, failed)
		res.failures = append(res.failures, failure{m.agent.name, what.name, failed})
		fresh, err := r.boot(ctx, m.agent)
		if err != nil {
			return m, err
		}
		err = m.end()
		m = fresh
		if err != nil {
			return m, err
		}
	}
	return m, m.vm.Stop(ctx)
}

// tags are what our agent is built with.
func (o options) tags() string {
	if o.profile != "" && o.batches == 0 {
		return "profile" // See cmd/agentd/profile.go.
	}
	return ""
}

// symbols reports whether our agent is built with symbols.
func (o options) symbols() bool { return o.profile != "" && o.batches > 0 }
