package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/agentd-go/agentd/client"
)

// timeLimit ends a command that takes too long, as package os/exec does.
func timeLimit(v *visit) error {
	ctx, cancel := context.WithTimeout(v.ctx, 2*time.Second)
	defer cancel()
	err := v.c.CommandContext(ctx, "sleep", "600").Run()
	if exit, ok := errors.AsType[*client.ExitError](err); ok && exit.Signal == syscall.SIGKILL {
		return nil // It was killed when its time was over.
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return nil // The host is so busy that the command had not begun by then.
	}
	return fmt.Errorf("it ended with %w", err)
}

// liveOutput reads lines as the command prints them: it waits for an answer to each.
func liveOutput(v *visit) error {
	cmd := v.c.CommandContext(v.ctx, "sh", "-c", `for i in 1 2 3; do echo "line $i of $NAME"; read answer; done`)
	cmd.AddEnv = []string{"NAME=tour"}
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	n := 0
	for lines := bufio.NewScanner(out); lines.Scan(); n++ {
		fmt.Println("    live:", lines.Text())
		if _, err := fmt.Fprintln(in, "go on"); err != nil {
			return err
		}
	}
	if err := cmd.Wait(); err != nil || n != 3 {
		return fmt.Errorf("%d lines, %w", n, err)
	}
	return nil
}
