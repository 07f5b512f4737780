package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/agentd-go/agentd/wire"
)

// countData is the number of bytes of one read or write.
const countData = 4 << 10

// A countable is an operation whose cost is counted.
type countable struct {
	name  string
	warm  int // How often it is done before it is counted: caches and pools are full then.
	times int // How often in each batch.
	of    int // How many operations one do is.
	do    func(ctx context.Context, m *machine) error
}

// countedOperations are those that a user does often.
func countedOperations(handle uint64) []countable {
	stat := func(path string) func(context.Context, *machine) error {
		return func(ctx context.Context, m *machine) error {
			_, err := m.request(ctx, &wire.OpStat{Path: path, FollowSymlink: true})
			return err
		}
	}
	run := func(name string, args ...string) func(context.Context, *machine) error {
		return func(ctx context.Context, m *machine) error {
			_, err := m.do(ctx, name, args...)
			return err
		}
	}
	read := func(ctx context.Context, m *machine) error {
		_, err := m.request(ctx, &wire.OpRead{Handle: handle, Len: new(uint64(countData))})
		return err
	}
	all := func(ctx context.Context, m *machine) error {
		_, err := burst(ctx, m)
		return err
	}
	const warm, times = 40, 20
	return []countable{
		{"ping", warm, times, 1, pingOnce},
		{"stat", warm, times, 1, stat("/etc/passwd")},
		{"stat in memory", warm, times, 1, stat(fileName)},
		{"read 4 KiB", warm, times, 1, read},
		{"write 4 KiB", warm, times, 1, func(ctx context.Context, m *machine) error { return m.writeOnce(ctx, handle) }},
		{"true", warm, times, 1, run("true")},
		{"echo", warm, times, 1, run("echo", "hello")},
		{"100 at once, each", 2, 1, atOnce, all},
	}
}

// pingOnce sends a ping. An agent that has none answers nothing, so a request to close a
// handle that nobody has takes its place.
func pingOnce(ctx context.Context, m *machine) error {
	if m.agent.generation < pingSince {
		_, _ = m.request(ctx, &wire.OpCloseHandle{Handle: 1 << 40}) // The answer is a refusal.
		return nil
	}
	pong := make(chan struct{})
	id := m.open(func(wire.Envelope) { close(pong) })
	defer m.close(id)
	if err := m.send(id, &wire.Ping{}); err != nil {
		return err
	}
	select {
	case <-pong:
		return nil
	case <-m.done:
		return m.failure()
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (m *machine) writeOnce(ctx context.Context, handle uint64) error {
	o, err := m.ask(&wire.OpWrite{Handle: handle, Len: new(uint64(countData))})
	if err != nil {
		return err
	}
	for _, part := range [][]byte{make([]byte, countData), nil} {
		if err := m.send(o.id, &wire.FSData{Data: part}); err != nil {
			return err
		}
	}
	return o.wait(ctx)
}

// A countRun counts what each agent makes its guest do.
type countRun struct {
	*rig
	*counter
	found map[string]map[string]tally
	order []string

	profile string // See options.
}

// count counts each agent's boot and operations, and prints them.
func (r *rig) count(ctx context.Context, o options, agents []*opponent) error {
	if r.cpus != 1 {
		return errors.New("-count: the counters are those of one virtual processor")
	}
	r.words = []string{"nokaslr"} // Functions stay at the addresses of the list.
	c := &countRun{rig: r, found: map[string]map[string]tally{}, profile: o.profile}
	var err error
	if c.counter, err = r.newCounter(ctx, agents[0], o.profile != ""); err != nil {
		return err
	}
	for _, a := range agents {
		if err := c.agent(ctx, o, a); err != nil {
			return fmt.Errorf("count %s: %w", a.name, err)
		}
	}
	c.print(agents)
	return nil
}

// agent counts one agent.
func (c *countRun) agent(ctx context.Context, o options, a *opponent) (err error) {
	c.clear()
	m, err := c.boot(ctx, a)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.end()) }()
	c.note("boot to core.ready", a, c.read())
	if err := m.writeFile(ctx, fileName, countData); err != nil {
		return err
	}
	handle, err := m.openFile(ctx, fileName, wire.OpenOptions{Read: true, Write: true})
	if err != nil {
		return err
	}
	for _, op := range countedOperations(handle) {
		if len(o.only) > 0 && !slices.ContainsFunc(o.only, func(w string) bool { return strings.HasPrefix(op.name, w) }) {
			continue
		}
		if err := c.operation(ctx, o.batches, m, op); err != nil {
			return fmt.Errorf("%s: %w", op.name, err)
		}
	}
	return nil
}

// operation notes the least of all batches for each counter.
func (c *countRun) operation(ctx context.Context, batches int, m *machine, op countable) error {
	do := func(times int) error {
		for range times {
			if err := op.do(ctx, m); err != nil {
				return err
			}
		}
		return nil
	}
	if err := do(op.warm); err != nil {
		return err
	}
	c.clearBlocks()
	var all []tally
	for range batches {
		before := c.read()
		if err := do(op.times); err != nil {
			return err
		}
		all = append(all, c.read().since(before, op.times*op.of))
	}
	c.note(op.name, m.agent, leastTally(all))
	if c.profile == "" || m.agent.name != ourName {
		return nil
	}
	return c.hotspots(filepath.Join(c.profile, op.name+".txt"), m.agent.binary, batches*op.times*op.of)
}

func (c *countRun) note(name string, a *opponent, t tally) {
	if c.found[name] == nil {
		c.found[name] = map[string]tally{}
		c.order = append(c.order, name)
	}
	c.found[name][a.name] = t
}

// print prints a line for each operation and agent, and after it the system calls.
func (c *countRun) print(agents []*opponent) {
	fmt.Printf("\n%-20s %-8s %10s %10s %9s %8s %8s %8s %8s\n",
		"", "agent", "user", "kernel", "strings", "switches", "wakes", "calls", "files")
	for _, name := range c.order {
		for _, a := range agents {
			t := c.found[name][a.name]
			fmt.Printf("%-20s %-8s %10.0f %10.0f %9.0f %8.2f %8.2f %8.2f %8.2f\n", name, a.name,
				t[user], t[kernel], t[repeats], c.of(t, "__switch_to_asm"), c.of(t, "try_to_wake_up"), c.calls(t), c.of(t, "fuse_simple_request"))
		}
	}
	fmt.Println()
	for _, name := range c.order {
		for _, a := range agents {
			fmt.Printf("%s, %s: %s\n", name, a.name, c.callNames(c.found[name][a.name]))
		}
	}
}

// callsShown is the least number of a system call that is shown.
const callsShown = 0.045

// callNames lists the system calls, the most frequent first.
func (c *countRun) callNames(t tally) string {
	type call struct {
		name string
		n    float64
	}
	var all []call
	for i, f := range c.functions {
		if name, is := strings.CutPrefix(f, callPrefix); is && t[i+watchedFirst] >= callsShown {
			all = append(all, call{name, t[i+watchedFirst]})
		}
	}
	slices.SortStableFunc(all, func(a, b call) int { return int(100 * (b.n - a.n)) })
	words := make([]string, len(all))
	for i, call := range all {
		words[i] = fmt.Sprintf("%s %.2f", call.name, call.n)
	}
	return strings.Join(words, ", ")
}

// calls is the number of system calls.
func (c *countRun) calls(t tally) (n float64) {
	for i, f := range c.functions {
		if strings.HasPrefix(f, callPrefix) {
			n += t[i+watchedFirst]
		}
	}
	return n
}

// of is how often a watched function ran.
func (c *countRun) of(t tally, function string) float64 {
	i := slices.Index(c.functions, function)
	if i < 0 {
		return 0
	}
	return t[i+watchedFirst]
}
