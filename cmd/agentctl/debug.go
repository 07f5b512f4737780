package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/internal/procfs"
	"github.com/agentd-go/agentd/sandbox"
)

func newDebug() *cobra.Command {
	debug := &cobra.Command{
		Use:   "debug",
		Short: "Look under the machine's cover",
	}
	debug.AddCommand(newDebugPlan(), newDebugStacks(), newDebugCmdline())
	return debug
}

func newDebugPlan() *cobra.Command {
	f := &machineFlags{}
	cmd := &cobra.Command{
		Use:   "plan [flags]",
		Short: "Boot a machine and print what its agent planned to do",
		Long: `Boot a machine with the flags of 'agentctl run', end it, and print the plan of its
agent: each step of the boot in its order.
` + exitHelp(plainExit),
		Args: cobra.NoArgs,
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
			_, err = os.Stdout.WriteString(planOn(string(m.Console())))
			return err
		},
	}
	f.register(cmd.Flags())
	return cmd
}

// planOn finds the plan on a console: what the agent says in one breath.
func planOn(console string) string {
	_, plan, _ := strings.Cut(strings.ReplaceAll(console, "\r", ""), "agentd: plan\n")
	plan, _, _ = strings.Cut(plan, "\nagentd: ")
	return strings.TrimRight(plan, "\n") + "\n"
}

func newDebugStacks() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:               "stacks NAME",
		Short:             "Show where in the kernel a machine's processes are",
		Long:              "Show where in the kernel a machine's processes are, the innermost function first.\n" + exitHelp(plainExit),
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			return withClient(cmd, args[0], func(ctx context.Context, c *client.Client) error {
				fsys := c.FS().WithContext(ctx)
				processes, err := procfs.Processes(fsys)
				for _, p := range processes {
					if p.Kernel && !all {
						continue
					}
					fmt.Printf("%d %s %s\n", p.PID, p.State, p.Command())
					for _, frame := range procfs.Stack(fsys, p.PID) {
						fmt.Println("    " + frame)
					}
				}
				return err
			})
		},
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "the kernel's threads too")
	return cmd
}

func newDebugCmdline() *cobra.Command {
	return &cobra.Command{
		Use:               "cmdline NAME",
		Short:             "Print the commands that repeat a machine by hand",
		Long:              "Print lines for sh that start QEMU and virtiofsd as they were in the machine's last life.\n" + exitHelp(plainExit),
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeNames,
		RunE: func(_ *cobra.Command, args []string) error {
			m, err := lookup(args[0])
			if err != nil {
				return err
			}
			b, err := os.ReadFile(m.Script())
			if err != nil {
				return fmt.Errorf("machine %s has not been up yet: %w", args[0], err)
			}
			_, err = os.Stdout.Write(b)
			return err
		},
	}
}
