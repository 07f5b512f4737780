package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/agentd-go/agentd/client"
)

// A portLine is an address at which programs of a machine listen, or have ceased to.
type portLine struct {
	Address string `json:"address"`
	Ended   bool   `json:"ended,omitempty"`
}

func newPorts() *cobra.Command {
	var watch bool
	cmd := offerJSON(&cobra.Command{
		Use:   "ports [-w] NAME",
		Short: "Show at which TCP ports programs of a running machine listen",
		Long: `Show the TCP addresses at which programs of a running machine listen. With -w, look twice a
second until ^C, and print a line for each address that is new (+) or gone (-).
` + exitHelp(plainExit),
		Example: `  agentctl ports dev
  agentctl ports -w --json dev`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			return withClient(cmd, args[0], func(ctx context.Context, c *client.Client) error {
				if watch {
					return watchPorts(ctx, c, wantsJSON(cmd))
				}
				return listPorts(ctx, c, wantsJSON(cmd))
			})
		},
	})
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "continue until ^C, with a line for each address that is new or gone")
	return cmd
}

func listPorts(ctx context.Context, c *client.Client, asJSON bool) error {
	all, err := c.ListeningPorts(ctx)
	for _, at := range all {
		if err = tellPort(portLine{Address: at.String()}, "", asJSON); err != nil {
			return err
		}
	}
	return err
}

func watchPorts(ctx context.Context, c *client.Client, asJSON bool) error {
	for e, err := range c.WatchPorts(ctx, 0) {
		if ctx.Err() != nil {
			return nil // Users end it by ^C.
		}
		if err != nil {
			return err
		}
		mark := "+"
		if e.Ended {
			mark = "-"
		}
		if err := tellPort(portLine{Address: e.Addr.String(), Ended: e.Ended}, mark, asJSON); err != nil {
			return err
		}
	}
	return nil
}

// tellPort prints a line.
func tellPort(p portLine, mark string, asJSON bool) error {
	if asJSON {
		return encodeJSON(os.Stdout, p, "")
	}
	_, err := fmt.Println(mark + p.Address)
	return err
}
