package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/internal/procfs"
	"github.com/agentd-go/agentd/internal/transfer"
)

// statsPeriod is the time between two samples. With a shorter one the samples
// themselves would dominate the figures.
const statsPeriod = time.Second

func newStats() *cobra.Command {
	var once, ended bool
	var text string
	cmd := &cobra.Command{
		Use:   "stats [flags] [NAME...]",
		Short: "Show what machines take, or a machine and its processes",
		Long: `Show a line for each machine that runs, or for each of several names. For one name, show
memory, CPU, pressure, disks, network, the use of each command of the agent with all its
descendants, and the busiest processes. On a terminal the figures are renewed every second
until ^C; otherwise they are shown once. Percentages are of one CPU. Pressure is the share of the last ten seconds in which a process waited.

A machine that does not answer within 5 seconds is left out if it was not named.
` + exitHelp(plainExit),
		Example:           `  agentctl stats --no-stream --format '{{.Name}} {{.CPUPerc}} {{.MemUsage}}'`,
		ValidArgsFunction: completeNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			if ended {
				return misuse(errors.New("stats: --all: machines that do not run use nothing: 'agentctl ps -a' lists them"))
			}
			if len(args) != 1 || text != "" {
				ctx, stop := interruptible(cmd)
				defer stop()
				return statsOfAll(ctx, args, cmp.Or(text, statsColumns), wantsJSON(cmd), once)
			}
			return withClient(cmd, args[0], func(ctx context.Context, c *client.Client) error {
				asJSON := wantsJSON(cmd)
				live := !once && !asJSON && term.IsTerminal(int(os.Stdout.Fd()))
				if live {
					defer fmt.Println() // Ends the line on which the terminal shows ^C.
				}
				return eachRates(ctx, c, live, func(r procfs.Rates) error {
					r.Commands = r.OfCommands(procfs.Groups(c.FS().WithContext(ctx)))
					if asJSON {
						return writeJSON(os.Stdout, r)
					}
					return show(statsText(args[0], r), live)
				})
			})
		},
	}
	cmd.Flags().BoolVar(&once, "no-stream", false, "print one sample, even on a terminal")
	cmd.Flags().StringVar(&text, "format", "", formatHelp+"; a line for each machine")
	cmd.Flags().BoolVarP(&ended, "all", "a", false, "refused: 'agentctl ps -a' has machines that do not run")
	cmd.Flags().Bool("no-trunc", true, "whole texts; they always are")
	for _, name := range []string{"all", "no-trunc"} {
		_ = cmd.Flags().MarkHidden(name) // It is there.
	}
	offerJSON(cmd)
	return cmd
}

// eachRates calls show once, or every period until ctx ends.
func eachRates(ctx context.Context, c *client.Client, live bool, show func(procfs.Rates) error) error {
	fsys := c.FS().WithContext(ctx)
	before, err := procfs.Take(fsys)
	tick := time.NewTicker(statsPeriod)
	defer tick.Stop()
	for err == nil {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil // Users end it by ^C.
		}
		var now procfs.Sample
		if now, err = procfs.Take(fsys); err != nil {
			break
		}
		if err = show(procfs.Between(before, now)); err != nil || !live {
			return err
		}
		before = now
	}
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func statsText(name string, r procfs.Rates) string {
	var b strings.Builder
	s := r.System
	fmt.Fprintf(&b, "%s   up %s   CPUs %d   load %.2f %.2f %.2f\n\n", name, span(s.Uptime), s.CPUs, s.Load[0], s.Load[1], s.Load[2])
	full := float64(s.Memory.Used()) / float64(max(1, s.Memory.Total))
	fmt.Fprintf(&b, "CPU      %s %5.1f%%\n", gauge(r.CPU/100/float64(max(1, s.CPUs))), r.CPU)
	fmt.Fprintf(&b, "memory   %s %s of %s, %s cached\n", gauge(full), transfer.Size(s.Memory.Used()), transfer.Size(s.Memory.Total), transfer.Size(s.Memory.Cached))
	fmt.Fprintf(&b, "pressure CPU %.1f%%   memory %.1f%%   I/O %.1f%%\n", s.Pressure.CPU.Some, s.Pressure.Memory.Some, s.Pressure.IO.Some)
	fmt.Fprintf(&b, "disks    %s/s in   %s/s out      network %s/s in   %s/s out\n\n",
		transfer.Size(int64(r.DiskIn)), transfer.Size(int64(r.DiskOut)), transfer.Size(int64(r.NetIn)), transfer.Size(int64(r.NetOut)))
	b.WriteString(commandsText(r.Commands))
	fmt.Fprintf(&b, "%7s %7s %6s %5s %10s  %s\n", "PID", "UID", "CPU%", "STATE", "RSS", "COMMAND")
	for _, p := range r.Processes[:min(len(r.Processes), busiest)] {
		fmt.Fprintf(&b, "%7d %7d %6.1f %5s %10s  %s\n", p.PID, p.UID, p.Percent, plain(p.State), transfer.Size(p.RSS), plain(p.Command()))
	}
	return b.String()
}

// commandsText is a table of the busiest commands; "" without any.
func commandsText(all []procfs.Command) string {
	const most = 6
	if len(all) == 0 {
		return ""
	}
	var b strings.Builder
	const row = "%7d %7s %6.1f %5d %10s  %s\n"
	fmt.Fprintf(&b, "%7s %7s %6s %5s %10s  %s\n", "PID", "GROUP", "CPU%", "PIDS", "RSS", "COMMAND, WITH ALL THAT DESCENDS FROM IT")
	for _, c := range all[:min(len(all), most)] {
		fmt.Fprintf(&b, row, c.PID, plain(c.Group), c.Percent, c.Processes, transfer.Size(c.RSS), plain(strings.Join(c.Args, " ")))
	}
	return b.String() + "\n"
}

// busiest is how many processes fit on a small terminal below the other lines.
const busiest = 14

// gauge draws a share between 0 and 1.
func gauge(part float64) string {
	const width = 30
	full := int(max(0, min(1, part))*width + 0.5)
	code := green
	if part > 0.9 {
		code = red
	} else if part > 0.7 {
		code = yellow
	}
	return "[" + color(os.Stdout, code, strings.Repeat("|", full)) + strings.Repeat(" ", width-full) + "]"
}

// screen returns a text that replaces the previous one on the terminal: it starts at
// the top and clears the rest of each line and all below the last line. Lines that do
// not fit are left out, because the terminal would scroll and break lines.
func screen(text string, w size) string {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	lines = lines[:min(len(lines), max(0, w.rows-1))] // The last row is for the cursor.
	for i, l := range lines {
		lines[i] = clip(l, w.columns) + "\x1b[K\n"
	}
	return "\x1b[H" + strings.Join(lines, "") + "\x1b[J"
}

// clip cuts a line to a width. Color codes take no columns, and colors end with the
// line.
func clip(line string, width int) string {
	var b strings.Builder
	inColor, n := false, 0
	for _, r := range line {
		inColor = inColor || r == '\x1b'
		if inColor || n < width {
			b.WriteRune(r)
		}
		if !inColor {
			n++
		}
		inColor = inColor && r != 'm'
	}
	return b.String()
}
