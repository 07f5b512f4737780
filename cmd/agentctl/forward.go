package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/internal/machines"
)

func newForward() *cobra.Command {
	var reverse []string
	var auto bool
	cmd := offerJSON(&cobra.Command{
		Use:   "forward NAME [--auto] [-R GUEST:HOST]... [[[ADDRESS:]PORT:]PORT[/udp]]...",
		Short: "Forward ports of this host into a running machine, or its ports to this host",
		Long: `Forward ports of this host into a running machine until ^C, and print the addresses on
which they listen. The agent makes the connections, so the machine needs no network. If
the link to the machine ends, forward connects again: open connections end, and the ports
stay open.

With -R the agent listens in the machine, and programs of the machine reach the named address
of this host, and nothing else. Each side is [ADDRESS:]PORT or a Unix socket; the guest's
port 0 is any free port. Only root of the machine may connect to a Unix socket, unless its
owner is changed (chown) by 'agentctl exec'.

With --auto, each TCP port at which a program of the machine listens gets a port at
127.0.0.1 of this host while it listens: the same number, or another if that is taken. A
line says which is new (+) or gone (-).
` + exitHelp(plainExit),
		Example: `  agentctl forward dev 8080:80
  agentctl forward dev 5432
  agentctl forward dev 8053:53/udp
  agentctl forward dev --auto
  agentctl forward dev -R 8080:3000
  agentctl forward dev -R /run/agent.sock:$SSH_AUTH_SOCK`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: completeNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			if auto && len(args) > 1 {
				return misuse(fmt.Errorf("forward: --auto and %s: --auto finds the ports itself", args[1]))
			}
			if auto {
				return withReconnector(cmd, args[0], func(ctx context.Context, r *client.Reconnector) error {
					return forwardAuto(ctx, r, wantsJSON(cmd))
				})
			}
			ports, err := forwards(args[1:], reverse)
			if err != nil {
				return misuse(err)
			}
			return withReconnector(cmd, args[0], func(ctx context.Context, r *client.Reconnector) error {
				return forward(ctx, r, ports, wantsJSON(cmd))
			})
		},
	})
	cmd.Flags().StringArrayVarP(&reverse, "reverse", "R", nil, "forward a port or socket of the machine to this host: `GUEST:HOST`, each [ADDRESS:]PORT or a Unix socket")
	cmd.Flags().BoolVar(&auto, "auto", false, "forward a port of this host to each port at which the machine listens")
	return cmd
}

// forwards reads the ports in both directions.
func forwards(ports, reverse []string) ([]machines.Port, error) {
	all, err := parsePorts(ports)
	if err != nil {
		return nil, err
	}
	back, err := collect(reverse, machines.ParseReverse)
	if err == nil && len(all)+len(back) == 0 {
		err = errors.New("no port: want [[ADDRESS:]PORT:]PORT, or -R GUEST:HOST")
	}
	return append(all, back...), err
}

func forward(ctx context.Context, r *client.Reconnector, ports []machines.Port, asJSON bool) error {
	for i, p := range ports {
		f, at, err := lead(ctx, r, p)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }() // Its connections end with this process.
		if p.Reverse {
			ports[i].Guest = at
		} else {
			ports[i].Host = at
		}
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
			return nil //nolint:nilerr // The user has ended it.
		}
		if err != nil {
			return err
		}
		if links > 0 {
			say("the link to the machine has ended and was made again; open connections were lost")
		}
		select {
		case <-ctx.Done():
			return nil // Users end it by ^C.
		case <-c.Done():
		}
	}
}

// lead begins to forward a port, and returns where that listens.
func lead(ctx context.Context, r *client.Reconnector, p machines.Port) (f io.Closer, at string, err error) {
	if p.Reverse {
		l, err := p.ListenIn(ctx, r.Listen)
		if err != nil {
			return nil, "", fmt.Errorf("port %s: %w", p, err)
		}
		return machines.Forward(l, p.DialOut, say), l.Addr().String(), nil
	}
	e, err := p.Open(ctx)
	if err != nil {
		return nil, "", err
	}
	return e.Forward(r, say), e.Addr().String(), nil
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
