package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/agentd-go/agentd/client"
)

const execExit = `  the command's own status, or
  125  agentctl or the connection failed; nothing is known of the command
  126  the command is not executable
  127  the command was not found
  128+n  signal n ended the command
`

const execLong = `Run a command in a running machine. If agentctl ends first, the command is killed,
except with -d and --name. With -i the command gets standard input; without -i it is not read.

With --name and without -d the command is kept too, and its output is shown until it ends. If
the link to the machine ends, exec connects again, and no byte is lost. If agentctl ends first,
the command continues.

-i and -t with -d: the command has an open input and a terminal, for 'agentctl attach -i'.

With -d the command's output and end are kept until 'agentctl rm --cmd', for a day, or
until 64 others have ended. Of each output the last 16 MiB are kept.

With --socket the machine is the one that serves clients at that path, and the first
argument is the command.
`

func newExec() *cobra.Command {
	f := &commandFlags{}
	var socket, kept, leaveBy string
	var detached, privileged bool
	cmd := &cobra.Command{
		Use:   "exec [flags] NAME [--] COMMAND [ARG...]",
		Short: "Run a command in a running machine",
		Long:  execLong + exitHelp(execExit),
		Example: `  agentctl exec dev -- make test
  agentctl exec -it dev -- sh
  agentctl exec -d --name build dev -- make; agentctl attach dev build
  agentctl exec --socket /tmp/machine -- ps`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: completeNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			name := ""
			dial := func(ctx context.Context) (*client.Client, error) { return client.Connect(ctx, socket) }
			if socket != "" && cmd.ArgsLenAtDash() < 0 && len(args) > 1 && args[1] == "--" {
				return misuse(fmt.Errorf("exec: --socket replaces the machine's name, but %q stands before --; if it is the command, write -- before it", args[0]))
			}
			if socket == "" {
				name = args[0]
				if args = afterDashes(args[1:]); len(args) == 0 {
					return misuse(errors.New("exec: no command; 'agentctl shell " + name + "' starts a shell"))
				}
				dial = func(ctx context.Context) (*client.Client, error) { return connect(ctx, name) }
			}
			if privileged {
				if err := refusePrivileged(name); err != nil {
					return err
				}
			}
			if detached {
				return f.detachExec(cmd.Context(), dial, name, kept, args)
			}
			if kept != "" {
				return f.foreground(cmd.Context(), dial, kept, leaveBy, args)
			}
			return f.exec(cmd.Context(), dial, args)
		},
	}
	f.register(cmd.Flags())
	registerBounds(cmd.Flags(), &f.bounds)
	cmd.Flags().BoolVarP(&detached, "detach", "d", false, "start the command, print its name and return; it continues without agentctl, and 'attach', 'logs', 'wait' and 'ps' show its output and its end")
	cmd.Flags().StringVar(&kept, "name", "", "keep the command under a `NAME` (with -d the default is c1, c2, …)")
	cmd.Flags().StringVar(&socket, "socket", "", "the machine's socket, instead of a name")
	cmd.Flags().StringArrayVar(&f.envFiles, "env-file", nil, "`file` of variables, one a line")
	cmd.Flags().BoolVar(&privileged, "privileged", false, "accepted for compatibility; commands of root have all privileges in the machine")
	_ = cmd.Flags().MarkHidden("privileged") // Cannot fail: the flag was just defined.
	cmd.Flags().StringVar(&leaveBy, "detach-keys", usualKeys, keysHelp)
	return cmd
}

// refusePrivileged refuses --privileged for a restricted machine.
func refusePrivileged(name string) error {
	m, err := lookup(name)
	if err == nil && m.Record().Config.Restricted {
		err = fmt.Errorf("exec: --privileged: machine %s was made with --security restricted, which takes privileges away", name)
	}
	return err
}

// afterDashes drops a "--" before the command: after a name, the flag parser does not
// drop it.
func afterDashes(args []string) []string {
	if len(args) > 0 && args[0] == "--" {
		return args[1:]
	}
	return args
}

func (f *commandFlags) exec(ctx context.Context, dial func(context.Context) (*client.Client, error), args []string) (err error) {
	if f.env, err = environmentOf(f.envFiles, f.env); err != nil {
		return err
	}
	if err := f.checkTerminal(); err != nil {
		return err
	}
	ctx, signals := catchSignals(ctx)
	defer signals.stop()
	c, err := dial(ctx)
	if err != nil {
		return ended(ctx, err)
	}
	defer func() { _ = c.Close() }() // The client is no longer needed.
	return f.command(ctx, c, args, signals)
}

func newShell() *cobra.Command {
	f := &commandFlags{tty: true, input: true}
	cmd := &cobra.Command{
		Use:   "shell NAME",
		Short: "Start a shell in a running machine",
		Long: `Start a shell on this terminal: bash if the machine has it, otherwise sh.
` + exitHelp(execExit),
		ValidArgsFunction: completeNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.exec(cmd.Context(), func(ctx context.Context) (c *client.Client, err error) {
				return connect(ctx, args[0])
			}, []string{"/bin/sh", "-c", "command -v bash >/dev/null && exec bash -l; exec sh -l"})
		},
	}
	cmd.Flags().StringVarP(&f.user, "user", "u", "", "run it as `USER[:GROUP]`, names or numbers of the machine")
	cmd.Flags().StringVarP(&f.dir, "workdir", "w", "", "its working `directory`")
	return cmd
}
