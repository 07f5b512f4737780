package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/agentd-go/agentd/sandbox"
)

type bootTimer struct {
	machineFlags
	json bool
	svg  string
}

func newBootTimes() *cobra.Command {
	f := &bootTimer{}
	cmd := &cobra.Command{
		Use:   "boot-times [flags]",
		Short: "Boot a machine and show where the time went",
		Long: `Boot a machine, end it, and show the time of each part of the boot: as text, as JSON,
or as a picture (SVG) in a file.

The guest measures its part with its own clock. In an emulated machine the resolution
of that clock is the kernel's tick (1 to 4 ms).
` + exitHelp(plainExit),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := f.config()
			if err != nil {
				return err
			}
			ctx, stop := interruptible(cmd)
			defer stop()
			return f.run(ctx, cfg)
		},
	}
	f.register(cmd.Flags())
	cmd.Flags().BoolVar(&f.json, "json", false, "as JSON")
	cmd.Flags().StringVar(&f.svg, "svg", "", "draw a picture to this `file` instead of printing text")
	return cmd
}

// A bootPart is one part of a boot.
type bootPart struct {
	Name  string        `json:"name"`
	Start time.Duration `json:"start_ns"`
	Took  time.Duration `json:"took_ns"`
}

// bootTimes is the output of boot-times --json. The parts add up to Ready.
type bootTimes struct {
	Parts    []bootPart    `json:"parts"`
	Ready    time.Duration `json:"ready_ns"`
	Shutdown time.Duration `json:"shutdown_ns"`
	Note     string        `json:"note"`
}

func (f *bootTimer) run(ctx context.Context, cfg sandbox.Config) error {
	if f.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, f.timeout)
		defer cancel()
	}
	cfg.Debug = append(cfg.Debug, "boot")
	start := time.Now()
	m, err := sandbox.Start(ctx, cfg)
	if err != nil {
		return err
	}
	note(m)
	ready := time.Since(start)
	down := time.Now()
	if err := m.Close(); err != nil {
		return err
	}
	t := partsOf(m, ready)
	t.Shutdown = time.Since(down)
	return f.print(t)
}

func (f *bootTimer) print(t bootTimes) (err error) {
	if f.json {
		err = writeJSON(os.Stdout, t)
	} else if f.svg == "" {
		err = printTimes(os.Stdout, t)
	}
	if err != nil || f.svg == "" {
		return err
	}
	out, err := os.Create(f.svg)
	if err != nil {
		return err
	}
	if err := drawTimes(out, t); err != nil {
		_ = out.Close() // The first error is returned.
		return err
	}
	return out.Close()
}

// partsOf returns the parts of a boot in the order of time. The agent's unmeasured time
// surrounds its steps; most of it comes before them.
func partsOf(m *sandbox.Machine, ready time.Duration) bootTimes {
	guest := m.Client().Agent()
	kernel := guest.Started
	around := guest.Ready - guest.Setup - kernel
	t := bootTimes{Ready: ready, Note: m.Note()}
	at := time.Duration(0)
	add := func(name string, took time.Duration) {
		t.Parts = append(t.Parts, bootPart{name, at, took})
		at += took
	}
	add("files, virtiofsd and QEMU", ready-guest.Ready)
	add("kernel", kernel)
	add("agent, up to its plan and around it", around)
	for _, s := range m.Steps() {
		add("step "+s.Name, s.Took)
	}
	return t
}

// printTimes lists the parts of a boot in order.
func printTimes(out io.Writer, t bootTimes) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(name string, d time.Duration) {
		_, _ = fmt.Fprintf(w, "%s\t  %s\n", milliseconds(d), plain(name)) // Flush returns the error.
	}
	for _, p := range t.Parts {
		row(p.Name, p.Took)
	}
	row("ready, in all", t.Ready)
	row("shutdown", t.Shutdown)
	return w.Flush()
}

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
}
