package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/agentd-go/agentd/client"
)

const execExit = `  the command's own status, or
  125  agentctl or the connection failed; nothing is known of the command
  126  the command is not executable
  127  the command was not found
  128+n  signal n ended the command
`

func newExec() *cobra.Command {
	f := &commandFlags{}
	var socket string
	cmd := &cobra.Command{
		Use:   "exec --socket PATH [flags] [--] COMMAND [ARG...]",
		Short: "Run a command in a machine that serves clients",
		Long: `Run a command in a machine that runs already and serves clients at a socket,
as 'agentctl run --socket' has it. A command whose agentctl is gone is killed.
` + exitHelp(execExit),
		Example: `  agentctl run --socket /tmp/machine -- sleep 1000 &
  agentctl exec --socket /tmp/machine -- ps
  agentctl exec --socket /tmp/machine -t -- sh`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return f.exec(cmd.Context(), socket, args) },
	}
	f.register(cmd.Flags())
	cmd.Flags().StringVar(&socket, "socket", "", "the machine's socket")
	_ = cmd.MarkFlagRequired("socket") // It is there.
	return cmd
}

func (f *commandFlags) exec(ctx context.Context, socket string, args []string) (err error) {
	if f.env, err = environment(f.env); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(contextOrBackground(ctx))
	defer cancel(nil)
	signals := catchSignals(cancel)
	defer signals.stop()
	c, err := client.Dial(ctx, socket)
	if err != nil {
		return ended(ctx, err)
	}
	defer func() { _ = c.Close() }() // What it was for is over.
	return f.command(ctx, c, args, signals)
}
