package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/agentd-go/agentd/internal/machines"
)

// newSupervise is the hidden command that start runs in the background.
func newSupervise() *cobra.Command {
	var adopts bool
	cmd := &cobra.Command{
		Use: "supervise NAME", Hidden: true,
		RunE: func(_ *cobra.Command, args []string) error {
			m, err := find(args[0])
			if err != nil {
				return err
			}
			ctx, cancel := context.WithCancelCause(context.Background())
			defer cancel(nil)
			words := make(chan os.Signal, 1)
			signal.Notify(words, machines.SignalStop, machines.SignalCut)
			signal.Ignore(syscall.SIGHUP, os.Interrupt)
			go func() {
				for word := range words {
					if word == machines.SignalCut {
						cancel(machines.CutCause())
					}
					cancel(nil)
				}
			}()
			return m.Supervise(ctx, adopts, func(line string) {
				fmt.Fprintln(os.Stderr, time.Now().Format(time.DateTime), legible(line))
			})
		},
	}
	cmd.Flags().BoolVar(&adopts, "adopt", false, "take over a machine whose supervisor was killed")
	return cmd
}

// adopt gives a machine of --survive a supervisor if its own was killed.
func adopt(m *machines.Machine) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return m.Adopt(context.Background(), self, "supervise", "--adopt", m.Name())
}

// listed lists the machines of a store. Those of --survive whose supervisor was killed get
// another one first. One that cannot be taken over is listed as it is, with an error.
func listed(store *machines.Store) (all []*machines.Machine, failed error) {
	all, failed = store.List()
	for _, m := range all {
		failed = errors.Join(failed, adopt(m))
	}
	return all, failed
}
