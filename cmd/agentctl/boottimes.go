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

func newBootTimes() *cobra.Command {
	f := &machineFlags{}
	cmd := &cobra.Command{
		Use:   "boot-times [flags]",
		Short: "Boot a machine and show where the time went",
		Long: `Boot a machine, end it, and show where the time of the boot went.

The guest measures its own part by its own clock, whose grain is the kernel's
tick (1 to 4 ms) in an emulated machine.
` + exitHelp(plainExit),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := f.config()
			if err != nil {
				return err
			}
			return bootTimes(contextOrBackground(cmd.Context()), cfg, f.timeout)
		},
	}
	f.register(cmd.Flags())
	return cmd
}

func bootTimes(ctx context.Context, cfg sandbox.Config, timeout time.Duration) error {
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
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
	return printTimes(os.Stdout, m, ready, time.Since(down))
}

// printTimes lists the parts of a boot in their order; together they are the
// whole.
func printTimes(out io.Writer, m *sandbox.Machine, ready, down time.Duration) error {
	t := m.Timings()
	agent := time.Duration(t.Guest.BootTimeNS)
	first := time.Duration(t.Guest.ReadyTimeNS) - time.Duration(t.Guest.InitTimeNS) - agent
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(name string, d time.Duration) {
		_, _ = fmt.Fprintf(w, "%.1f ms\t  %s\n", float64(d)/float64(time.Millisecond), name) // Flush has the error.
	}
	row("files, virtiofsd and QEMU", ready-time.Duration(t.Guest.ReadyTimeNS))
	row("kernel", agent)
	row("agent, up to its plan and around it", first)
	for _, s := range m.Steps() {
		row("step "+s.Name, s.Took)
	}
	row("ready, in all", ready)
	row("shutdown", down)
	return w.Flush()
}
