package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/internal/machines"
	"github.com/agentd-go/agentd/internal/procfs"
	"github.com/agentd-go/agentd/internal/transfer"
)

// A machineStats is a machine in the output of stats --json without one name.
type machineStats struct {
	Name string `json:"name"`
	procfs.Rates
}

// sampleWait bounds the sample of one machine, so that a hanging guest does not delay
// the others.
const sampleWait = 5 * time.Second

// A watcher samples one machine repeatedly.
type watcher struct {
	name   string
	client *client.Client
	before procfs.Sample
	rates  procfs.Rates
	looks  int
	err    error
}

// look takes a sample. The first one gives no rates yet.
func (w *watcher) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, sampleWait)
	defer cancel()
	if w.client == nil {
		if w.client, w.err = connect(ctx, w.name); w.err != nil {
			return
		}
	}
	now, err := procfs.Take(w.client.FS().WithContext(ctx))
	if w.err = err; err != nil {
		return
	}
	w.rates = procfs.Between(w.before, now)
	w.before = now
	w.looks++
}

func (w *watcher) close() {
	if w.client != nil {
		_ = w.client.Close() // The client is no longer needed.
	}
}

// watchers are the watchers of all running machines, or of the named ones.
type watchers struct {
	names []string // nil means all running machines.
	all   []*watcher
}

// look takes a sample of each. If a named machine does not answer, that is an error;
// another machine is left out for now.
func (w *watchers) look(ctx context.Context) error {
	if err := w.meet(); err != nil {
		return err
	}
	var each sync.WaitGroup
	for _, one := range w.all {
		each.Go(func() { one.look(ctx) })
	}
	each.Wait()
	for _, one := range w.all {
		if one.err != nil && w.names != nil && ctx.Err() == nil {
			return one.err
		}
	}
	w.keep(func(one *watcher) bool { return one.err == nil })
	return nil
}

// meet makes watchers for machines without one.
func (w *watchers) meet() error {
	names := w.names
	if names == nil {
		var err error
		if names, err = runningNames(); err != nil {
			return err
		}
	}
	w.keep(func(one *watcher) bool { return slices.Contains(names, one.name) })
	for _, name := range names {
		if !slices.ContainsFunc(w.all, func(one *watcher) bool { return one.name == name }) {
			w.all = append(w.all, &watcher{name: name})
		}
	}
	return nil
}

// keep closes the watchers of all other machines.
func (w *watchers) keep(which func(*watcher) bool) {
	w.all = slices.DeleteFunc(w.all, func(one *watcher) bool {
		gone := !which(one)
		if gone {
			one.close()
		}
		return gone
	})
}

// stats returns the figures of the machines with two samples.
func (w *watchers) stats() []machineStats {
	all := []machineStats{}
	for _, one := range w.all {
		const both = 2
		if one.looks >= both {
			all = append(all, machineStats{one.name, one.rates})
		}
	}
	return all
}

func runningNames() (names []string, err error) {
	store, err := machines.Open("")
	if err != nil {
		return nil, err
	}
	all, err := listed(store)
	for _, m := range all {
		if s, failed := m.Status(); failed == nil && s.Phase == machines.Running {
			names = append(names, m.Name())
		}
	}
	return names, err
}

// statsOfAll shows a line for each machine: every period on a terminal, otherwise once.
func statsOfAll(ctx context.Context, names []string, text string, asJSON, once bool) error {
	if _, err := parseFormat(text); err != nil {
		return err // Before the first sample.
	}
	if len(names) == 0 {
		names = nil // All.
	}
	w := &watchers{names: names}
	defer w.keep(func(*watcher) bool { return false })
	live := !once && !asJSON && term.IsTerminal(int(os.Stdout.Fd()))
	tick := time.NewTicker(statsPeriod)
	defer tick.Stop()
	for looks := 0; ; looks++ {
		if err := w.look(ctx); err != nil {
			return err
		}
		switch {
		case ctx.Err() != nil:
			return nil // ^C is how to end it.
		case looks == 0:
		case asJSON:
			return writeJSON(os.Stdout, w.stats())
		default:
			if err := showStats(text, w.stats(), live); err != nil || !live {
				return err
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func showStats(format string, all []machineStats, live bool) error {
	var b bytes.Buffer
	if err := printEach(&b, format, all, func(s machineStats) any { return statsView{s} }, statsHead{}); err != nil {
		return err
	}
	return show(b.String(), live)
}

// show prints a text, or replaces the previous one on the terminal.
func show(text string, live bool) error {
	if live {
		text = screen(text, terminalSize(os.Stdout))
	}
	_, err := io.WriteString(os.Stdout, text)
	return err
}

// statsColumns are the columns of stats for several machines without --format.
const statsColumns = `table {{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}`

// A statsView is a machine's figures for a template, by Docker's names.
type statsView struct{ machineStats }

// MarshalJSON writes the figures.
func (v statsView) MarshalJSON() ([]byte, error) { return json.Marshal(v.machineStats) }

// ID is the name: machines have no other.
func (v statsView) ID() string { return v.Name }

// Container is the name too.
func (v statsView) Container() string { return v.Name }

// CPUPerc is in percent of one processor.
func (v statsView) CPUPerc() string { return fmt.Sprintf("%.2f%%", v.CPU) }

// MemUsage is the used and the total memory.
func (v statsView) MemUsage() string { return pairOf(v.System.Memory.Used(), v.System.Memory.Total) }

// MemPerc is the used share of the memory.
func (v statsView) MemPerc() string {
	const percent = 100
	return fmt.Sprintf("%.2f%%", percent*float64(v.System.Memory.Used())/float64(max(1, v.System.Memory.Total)))
}

// NetIO is what the network card has received and sent since the boot.
func (v statsView) NetIO() string { return pairOf(v.System.Network.In, v.System.Network.Out) }

// BlockIO is what the disks have read and written since the boot.
func (v statsView) BlockIO() string { return pairOf(v.System.Disks.In, v.System.Disks.Out) }

// PIDs is how many processes there are, without the kernel's threads.
func (v statsView) PIDs() int { return len(v.Processes) }

func pairOf(a, b int64) string { return transfer.Size(a) + " / " + transfer.Size(b) }

// A statsHead has the column headers of a table of statsViews, by the same names.
type statsHead struct{}

// The columns of Docker's table.
func (statsHead) ID() string        { return "NAME" }
func (statsHead) Name() string      { return "NAME" }
func (statsHead) Container() string { return "CONTAINER" }
func (statsHead) CPUPerc() string   { return "CPU %" }
func (statsHead) MemUsage() string  { return "MEM USAGE / LIMIT" }
func (statsHead) MemPerc() string   { return "MEM %" }
func (statsHead) NetIO() string     { return "NET I/O" }
func (statsHead) BlockIO() string   { return "BLOCK I/O" }
func (statsHead) PIDs() string      { return "PIDS" }
