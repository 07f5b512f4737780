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
which they listen. The agent makes the connections, so the machine needs no network. If
the link to the machine ends it is made again: connections that are open end, and the
ports stay open.
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
			return withReconnector(cmd, args[0], func(ctx context.Context, r *client.Reconnector) error {
				return forward(ctx, r, ports, wantsJSON(cmd))
			})
		},
	})
}

func forward(ctx context.Context, r *client.Reconnector, ports []machines.Port, asJSON bool) error {
	for i, p := range ports {
		var config net.ListenConfig
		l, err := config.Listen(ctx, "tcp", p.Host)
		if err != nil {
			return fmt.Errorf("port %s: %w", p, err)
		}
		f := machines.Forward(l, p.Dial(r), say)
		defer func() { _ = f.Close() }() // Its connections end with this process.
		ports[i].Host = l.Addr().String()
	}
	if err := tellPorts(ports, asJSON); err != nil {
		return err
	}
	return holdLink(ctx, r)
}

// holdLink connects again when a link ends, until the context is done or nobody can be reached.
func holdLink(ctx context.Context, r *client.Reconnector) error {
	for links := 0; ; links++ {
		c, err := r.Client(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if links > 0 {
			say("the link to the machine has ended and was made again; connections that were open have ended")
		}
		select {
		case <-ctx.Done():
			return nil // Users end it by ^C.
		case <-c.Done():
		}
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
