// Command tour shows what a program can do with machines, one step after another. It
// ends with status 1 at the first step that does not work.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"time"

	"github.com/agentd-go/agentd/sandbox"
)

// limit is for the whole tour: seconds with hardware virtualization, minutes without.
const limit = 9 * time.Minute

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt)
	defer stop()
	if err := tour(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "tour:", err)
		os.Exit(1)
	}
}

func tour(ctx context.Context) error {
	if err := sandbox.Supported(); err != nil {
		return err
	}
	if err := inOneMachine(ctx); err != nil {
		return err
	}
	for _, s := range []step[context.Context]{
		{"three machines at once", many},
		{"a machine that a script has started", byHand},
	} {
		if err := s.show(ctx); err != nil {
			return err
		}
	}
	return nil
}

// inOneMachine shows what a program can do in a machine.
func inOneMachine(ctx context.Context) (err error) {
	m, err := sandbox.Start(ctx, sandbox.Config{Hostname: "tour"})
	if err != nil {
		return err
	}
	for _, s := range []step[*visit]{
		{"a command with a time limit", timeLimit},
		{"live output", liveOutput},
		{"a copied tree", copyTree},
		{"an HTTP request into the guest", request},
	} {
		if err := s.show(&visit{ctx, m.Client()}); err != nil {
			_ = m.Kill() // The step's error is the one to tell.
			return err
		}
	}
	if err := m.Close(); err != nil {
		return err
	}
	return m.Wait(ctx) // How it ended: in order.
}
