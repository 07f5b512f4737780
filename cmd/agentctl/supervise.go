package main

import (
	"context"
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
	return &cobra.Command{
		Use: "supervise NAME", Hidden: true,
		RunE: func(_ *cobra.Command, args []string) error {
			m, err := lookup(args[0])
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
			return m.Supervise(ctx, func(line string) {
				fmt.Fprintln(os.Stderr, time.Now().Format(time.DateTime), legible(line))
			})
		},
	}
}
