package main

import (
	"context"
	"fmt"
	"net"
	"os"

	"github.com/spf13/cobra"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/internal/machines"
)

func newForward() *cobra.Command {
	return offerJSON(&cobra.Command{
		Use:   "forward NAME [[ADDRESS:]PORT:]PORT...",
		Short: "Lead ports of this host into a running machine",
		Long: `Forward ports of this host into a running machine until ^C, and print the addresses on
which they listen. The agent makes the connections, so the machine needs no network.
` + exitHelp(plainExit),
		Example: `  agentctl forward dev 8080:80
  agentctl forward dev 5432`,
		Args:              cobra.MinimumNArgs(2),
		ValidArgsFunction: completeNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			ports, err := parsePorts(args[1:])
			if err != nil {
				return misuse(err)
			}
			return withClient(cmd, args[0], func(ctx context.Context, c *client.Client) error {
				return forward(ctx, c, ports, wantsJSON(cmd))
			})
		},
	})
}

func forward(ctx context.Context, c *client.Client, ports []machines.Port, asJSON bool) error {
	for i, p := range ports {
		var config net.ListenConfig
		l, err := config.Listen(ctx, "tcp", p.Host)
		if err != nil {
			return fmt.Errorf("port %s: %w", p, err)
		}
		f := machines.Forward(l, p.Dial(c), say)
		defer func() { _ = f.Close() }() // Its connections end with this process.
		ports[i].Host = l.Addr().String()
	}
	if err := tellPorts(ports, asJSON); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return nil // Users end it by ^C.
	case <-c.Done():
		return c.Err()
	}
}

func tellPorts(ports []machines.Port, asJSON bool) error {
	if asJSON {
		return writeJSON(os.Stdout, ports)
	}
	for _, p := range ports {
		fmt.Println(p)
	}
	return nil
}
