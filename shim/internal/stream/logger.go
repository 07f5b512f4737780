package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"time"
)

const (
	// readyTime is for a logging program to say that it takes output.
	readyTime = 10 * time.Second
	// loggerGrace is for it to write what it has read, after the end of its input.
	loggerGrace = 5 * time.Second
)

// A logger is a program that takes the output of a process, by containerd's
// convention: stdout and stderr are its descriptors 3 and 4, and it closes 5 when it
// is ready.
type logger struct {
	cmd            *exec.Cmd
	stdout, stderr *os.File
	done           chan struct{}
}

// closeFiles closes files of which some are not there, and to which nothing was written.
func closeFiles(files ...*os.File) {
	for _, f := range files {
		if f != nil {
			_ = f.Close()
		}
	}
}

// startLogger starts what binary:///PROGRAM?ARGUMENT=VALUE names.
func startLogger(ctx context.Context, spec Spec) (*logger, error) {
	cmd, err := loggerCommand(spec)
	if err != nil {
		return nil, err
	}
	var pipes [6]*os.File                                       // Three times the reading and the writing end.
	defer func() { closeFiles(pipes[0], pipes[2], pipes[5]) }() // The program has its own.
	for i := 0; i < len(pipes); i += 2 {
		if pipes[i], pipes[i+1], err = os.Pipe(); err != nil { //nolint:gosec // Their number is even.
			closeFiles(pipes[1], pipes[3], pipes[4])
			return nil, err
		}
	}
	cmd.ExtraFiles = []*os.File{pipes[0], pipes[2], pipes[5]}
	l := &logger{cmd: cmd, stdout: pipes[1], stderr: pipes[3], done: make(chan struct{})}
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start the logging program: %w", err), l.stdout.Close(), l.stderr.Close(), pipes[4].Close())
	}
	_ = pipes[5].Close()
	pipes[5] = nil
	go func() {
		_ = cmd.Wait()
		close(l.done)
	}()
	return l, awaitReady(ctx, pipes[4])
}

func loggerCommand(spec Spec) (*exec.Cmd, error) {
	u, err := url.Parse(spec.Stdout)
	if err != nil {
		return nil, err
	}
	if u.Path == "" {
		return nil, fmt.Errorf("address %q: names no program", spec.Stdout)
	}
	var args []string
	for key, values := range u.Query() {
		args = append(args, key)
		if len(values) > 0 {
			args = append(args, values[0])
		}
	}
	cmd := exec.CommandContext(context.Background(), u.Path, args...)
	cmd.Env = append(os.Environ(), "CONTAINER_ID="+spec.ID, "CONTAINER_NAMESPACE="+spec.Namespace)
	return cmd, nil
}

// awaitReady waits until the program has written or closed its end.
func awaitReady(ctx context.Context, ready *os.File) error {
	defer func() { _ = ready.Close() }()
	deadline := time.Now().Add(readyTime)
	if t, ok := ctx.Deadline(); ok && t.Before(deadline) {
		deadline = t
	}
	_ = ready.SetReadDeadline(deadline)
	if _, err := ready.Read(make([]byte, 1)); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("wait for the logging program: %w", err)
	}
	return nil
}

// wait lets the program end by itself, after its input has.
func (l *logger) wait() {
	select {
	case <-l.done:
	case <-time.After(loggerGrace):
		_ = l.cmd.Process.Kill()
		<-l.done
	}
}
