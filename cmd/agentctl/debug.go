package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/internal/procfs"
	"github.com/agentd-go/agentd/internal/trace"
	"github.com/agentd-go/agentd/sandbox"
)

func newDebug() *cobra.Command {
	return group("debug", "Show the internals of a machine", "",
		newDebugFrames(), newDebugPlan(), newDebugStacks(), newDebugCmdline())
}

func newDebugFrames() *cobra.Command {
	f := &commandFlags{}
	cmd := &cobra.Command{
		Use:   "frames [flags] NAME [--] COMMAND [ARG...]",
		Short: "Run a command in a running machine and show the frames",
		Long: `Run a command in a running machine, and show on standard error each frame between this
agentctl and the machine's relay: its time, direction, id, flags (S starts a session, T
ends it) and content.
` + exitHelp(execExit),
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: completeNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			name, command := args[0], afterDashes(args[1:])
			if len(command) == 0 {
				return misuse(errors.New("debug frames: no command"))
			}
			return f.exec(cmd.Context(), func(ctx context.Context) (*client.Client, error) { return traced(ctx, name) }, command)
		},
	}
	f.register(cmd.Flags())
	return cmd
}

// traced returns a client whose frames are shown.
func traced(ctx context.Context, name string) (*client.Client, error) {
	m, err := lookup(name)
	if err != nil {
		return nil, err
	}
	var d net.Dialer
	relay, err := d.DialContext(ctx, "unix", m.Socket())
	if err != nil {
		return nil, fmt.Errorf("machine %s: %w", name, err)
	}
	dir, err := os.MkdirTemp("", "frames-")
	if err != nil {
		return nil, errors.Join(err, relay.Close())
	}
	defer func() { _ = os.RemoveAll(dir) }() // Open connections stay open.
	var config net.ListenConfig
	l, err := config.Listen(ctx, "unix", filepath.Join(dir, "s"))
	if err != nil {
		return nil, errors.Join(err, relay.Close())
	}
	go func() {
		near, err := l.Accept()
		if err == nil {
			_ = trace.New(os.Stderr).Serve(near, relay) // Its end also ends the client.
		}
	}()
	c, err := client.Connect(ctx, filepath.Join(dir, "s"))
	return c, errors.Join(err, l.Close())
}

func newDebugPlan() *cobra.Command {
	f := &machineFlags{}
	cmd := &cobra.Command{
		Use:   "plan [flags]",
		Short: "Boot a machine and print what its agent planned to do",
		Long: `Boot a machine with the flags of 'agentctl run', end it, and print its agent's plan:
the steps of the boot, in order.
` + exitHelp(plainExit),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := f.config()
			if err != nil {
				return err
			}
			cfg.Debug = append(cfg.Debug, "plan")
			ctx, stop := interruptible(cmd)
			defer stop()
			m, err := sandbox.Start(ctx, cfg)
			if err != nil {
				return err
			}
			if err := m.Close(); err != nil {
				return err
			}
			plan := planOn(string(m.Console()))
			if wantsJSON(cmd) {
				return writeJSON(os.Stdout, stepsOf(plan))
			}
			_, err = os.Stdout.WriteString(plan)
			return err
		},
	}
	f.register(cmd.Flags())
	return offerJSON(cmd)
}

// A planStep is a step in the output of debug plan --json.
type planStep struct {
	Step string `json:"step"`
	Text string `json:"text"`
}

// stepsOf parses the lines of a plan; the first one names its source.
func stepsOf(plan string) []planStep {
	steps := []planStep{}
	for line := range strings.Lines(plan) {
		name, text, _ := strings.Cut(strings.TrimSpace(line), " ")
		steps = append(steps, planStep{name, text})
	}
	return steps
}

// planOn finds the plan on a console. The plan ends before the agent's next line, or
// before the empty line that precedes the kernel's last lines.
func planOn(console string) string {
	_, plan, _ := strings.Cut(strings.ReplaceAll(console, "\r", ""), "agentd: plan\n")
	plan, _, _ = strings.Cut(plan, "\nagentd: ")
	plan, _, _ = strings.Cut(plan, "\n\n")
	return legible(strings.TrimRight(plan, "\n")) + "\n"
}

func newDebugStacks() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:               "stacks NAME",
		Short:             "Show where in the kernel a machine's processes are",
		Long:              "Show where in the kernel a machine's processes are, the innermost function first.\n" + exitHelp(plainExit),
		ValidArgsFunction: completeNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			return withClient(cmd, args[0], func(ctx context.Context, c *client.Client) error {
				stacks, err := stacksOf(c.FS().WithContext(ctx), all)
				if wantsJSON(cmd) {
					return errors.Join(err, writeJSON(os.Stdout, stacks))
				}
				for _, s := range stacks {
					fmt.Printf("%d %s %s\n", s.PID, plain(s.State), plain(s.Command()))
					for _, frame := range s.Stack {
						fmt.Println("    " + plain(frame))
					}
				}
				return err
			})
		},
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "include kernel threads")
	return offerJSON(cmd)
}

// A stack is a process in the output of debug stacks --json.
type stack struct {
	procfs.Process
	Stack []string `json:"stack"` // Functions in the kernel, the innermost first.
}

func stacksOf(fsys fs.FS, kernel bool) ([]stack, error) {
	processes, err := procfs.Processes(fsys)
	stacks := []stack{}
	for _, p := range processes {
		if !p.Kernel || kernel {
			stacks = append(stacks, stack{p, procfs.Stack(fsys, p.PID)})
		}
	}
	return stacks, err
}

func newDebugCmdline() *cobra.Command {
	return &cobra.Command{
		Use:               "cmdline NAME",
		Short:             "Print the commands that repeat a machine by hand",
		Long:              "Print shell lines that start QEMU and virtiofsd as in the machine's last life.\n" + exitHelp(plainExit),
		ValidArgsFunction: completeNames,
		RunE: func(_ *cobra.Command, args []string) error {
			m, err := lookup(args[0])
			if err != nil {
				return err
			}
			b, err := os.ReadFile(m.Script())
			if err != nil {
				return fmt.Errorf("machine %s has not run yet: %w", args[0], err)
			}
			_, err = os.Stdout.Write(b)
			return err
		},
	}
}
