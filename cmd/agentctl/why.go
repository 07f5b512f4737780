package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/internal/machines"
	"github.com/agentd-go/agentd/internal/procfs"
)

// A hang holds what is known about a hanging machine: the output of why --json.
type hang struct {
	Pressure  procfs.Pressures `json:"pressure"`
	Load      [3]float64       `json:"load"`
	Processes []waiting        `json:"processes"`
	Console   []string         `json:"console"` // The last lines.

	Killed []machines.OOMKill `json:"killed"` // By the kernel, for lack of memory; the newest are last.
}

// waiting is a process with the object that it waits for.
type waiting struct {
	procfs.Process
	procfs.Wait
	Depth int `json:"depth"` // Depth below its ancestors.
}

// consoleLines is about the length of a kernel's report of a hanging task.
const consoleLines = 12

func newWhy() *cobra.Command {
	return offerJSON(&cobra.Command{
		Use:   "why NAME",
		Short: "Show why a machine hangs",
		Long: `Show why a machine hangs: its tree of processes, each with its state, the kernel's
function in which it sleeps, and its open pipes and sockets; the pressure; the processes
that its kernel has killed for lack of memory; and the last lines of the console.
` + exitHelp(plainExit),
		ValidArgsFunction: completeNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			return withClient(cmd, args[0], func(ctx context.Context, c *client.Client) error {
				h, err := lookWhy(ctx, c, args[0])
				if err != nil {
					return err
				}
				if wantsJSON(cmd) {
					return writeJSON(os.Stdout, h)
				}
				return printWhy(os.Stdout, h)
			})
		},
	})
}

func lookWhy(ctx context.Context, c *client.Client, name string) (h hang, err error) {
	fsys := c.FS().WithContext(ctx)
	s, err := procfs.Take(fsys)
	if err != nil {
		return h, err
	}
	h.Pressure, h.Load = s.System.Pressure, s.System.Load
	for _, b := range procfs.Tree(slices.DeleteFunc(s.Processes, func(p procfs.Process) bool { return p.Kernel })) {
		w, err := procfs.WaitOf(fsys, b.PID)
		if err != nil {
			return h, err
		}
		h.Processes = append(h.Processes, waiting{b.Process, w, b.Depth})
	}
	h.Console, h.Killed, err = ofConsole(ctx, name)
	return h, err
}

// mostKilled is how many of the killed processes are shown.
const mostKilled = 8

// ofConsole returns the console's last lines, and what it says of the memory killer.
func ofConsole(ctx context.Context, name string) (last []string, killed []machines.OOMKill, err error) {
	var b bytes.Buffer
	if err := copyConsole(ctx, &b, name); err != nil {
		return nil, nil, err
	}
	text := strings.ReplaceAll(b.String(), "\r", "")
	lines := strings.Split(strings.TrimSpace(text), "\n")
	killed = append([]machines.OOMKill{}, machines.OOMKills([]byte(text))...)
	return lines[max(0, len(lines)-consoleLines):], killed[max(0, len(killed)-mostKilled):], nil
}

func copyConsole(ctx context.Context, to io.Writer, name string) error {
	if isPod(name) {
		p, err := lookupPod(name)
		if err != nil {
			return err
		}
		return p.CopyConsole(to)
	}
	m, err := lookup(name)
	if err != nil {
		return err
	}
	return m.CopyLog(ctx, to, machines.ConsoleLog, false)
}

func printWhy(out io.Writer, h hang) error {
	var b strings.Builder
	for _, p := range h.Processes {
		indent := deep(p.Depth)
		state := plain(p.State)
		if state == "D" {
			state = color(os.Stdout, red, state)
		}
		fmt.Fprintf(&b, "%s%d %s %s\n", indent, p.PID, state, plain(p.Command()))
		if p.Channel != "" {
			fmt.Fprintf(&b, "%s    sleeps in %s\n", indent, plain(p.Channel))
		}
		for _, f := range p.Files {
			if strings.HasPrefix(f.Target, "pipe:") || strings.HasPrefix(f.Target, "socket:") {
				fmt.Fprintf(&b, "%s    %s is %s%s\n", indent, plain(f.FD), plain(f.Target), ends(h, p.PID, f.Target))
			}
		}
	}
	fmt.Fprintf(&b, "\npressure: CPU %.1f%%, memory %.1f%%, I/O %.1f%%; load %.2f\n", h.Pressure.CPU.Some, h.Pressure.Memory.Some, h.Pressure.IO.Some, h.Load[0])
	for _, k := range h.Killed {
		why := "the machine has no memory left"
		if k.Limit {
			why = "its command has reached its limit"
		}
		fmt.Fprintf(&b, "memory killer: ended %s (%d): %s\n", plain(k.Name), k.PID, why)
	}
	b.WriteString("console:\n")
	for _, line := range h.Console {
		b.WriteString("  " + plain(strings.ReplaceAll(line, "\t", " ")) + "\n")
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// ends names the other processes that have the pipe open.
func ends(h hang, pid int, target string) string {
	var others []string
	for _, p := range h.Processes {
		if p.PID != pid && slices.ContainsFunc(p.Files, func(f procfs.File) bool { return f.Target == target }) {
			others = append(others, strconv.Itoa(p.PID))
		}
	}
	if others == nil {
		return ""
	}
	return ", also of " + strings.Join(others, ", ")
}
