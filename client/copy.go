package client

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"time"
)

// StdinPipe returns a pipe that is the command's stdin, with the capacity of a
// Linux pipe. It is written before or after Start; Close ends the input. Writing
// returns EPIPE once the command has closed its input or ended.
func (c *Cmd) StdinPipe() (io.WriteCloser, error) {
	if c.Stdin != nil {
		return nil, errors.New("stdin already set")
	}
	if c.used {
		return nil, errors.New("stdin pipe after start")
	}
	c.stdin = newStream(pipeLimit)
	c.Stdin = c.stdin
	return stdinPipe{c.stdin}, nil
}

// StdoutPipe returns a pipe with the command's stdout. An unread pipe stops the
// link when it is full (see the package's documentation). Close discards the rest.
func (c *Cmd) StdoutPipe() (io.ReadCloser, error) {
	return c.outputPipe("stdout", &c.stdout, c.Stdout)
}

// StderrPipe is StdoutPipe for stderr.
func (c *Cmd) StderrPipe() (io.ReadCloser, error) {
	return c.outputPipe("stderr", &c.stderr, c.Stderr)
}

func (c *Cmd) outputPipe(name string, pipe **stream, w io.Writer) (io.ReadCloser, error) {
	if w != nil || *pipe != nil {
		return nil, errors.New(name + " already set")
	}
	if c.used {
		return nil, errors.New(name + " pipe after start")
	}
	*pipe = newStream(StreamLimit)
	return *pipe, nil
}

// outputs returns where the process puts its output, nil for what is discarded.
func (c *Cmd) outputs() (stdout, stderr *stream) {
	if c.Sink != nil {
		both := newStream(StreamLimit)
		return both, both
	}
	stdout, stderr = c.stdout, c.stderr
	if stdout == nil && c.Stdout != nil {
		stdout = newStream(StreamLimit)
	}
	if stderr == nil && c.Stderr != nil {
		stderr = newStream(StreamLimit)
		if c.stdout == nil && same(c.Stdout, c.Stderr) {
			stderr = stdout
		}
	}
	return stdout, stderr
}

// same reports whether two writers are known to be one.
func same(a, b io.Writer) bool {
	return a != nil && reflect.TypeOf(a).Comparable() && reflect.TypeOf(b).Comparable() && a == b
}

// copyAll starts the goroutines that copy between the process and the caller's
// reader and writers.
func (c *Cmd) copyAll() {
	c.copied = make(chan error, 3) // One for each stream: none waits for Wait.
	c.copyInput()
	if c.Sink != nil {
		c.copyOutput(func(from *stream) error { return c.Sink.copyTo(from, c.proc.sinkGap()) }, c.proc.stdout)
	}
	if c.Stdout != nil {
		c.copyOutput(toWriter(c.Stdout), c.proc.stdout)
	}
	if c.Stderr != nil && c.proc.stderr != c.proc.stdout {
		c.copyOutput(toWriter(c.Stderr), c.proc.stderr)
	}
}

func (c *Cmd) copyInput() {
	in := &input{p: c.proc, terminal: c.HasTTY()}
	if c.view != nil && (!c.view.Write || c.Stdin == nil) {
		return // The input is another's, or is left as it is.
	}
	if c.Keep != nil && c.Stdin == nil {
		return // The request has said so.
	}
	switch r := c.Stdin.(type) {
	case nil:
		in.end() // The first frame of an outbox never waits.
	case *stream:
		c.copy(func() error { return pipeError(in.copyFrom(r)) })
	case *os.File:
		go func() { _ = in.copyFrom(r) }() // Wait does not wait for it; see Stdin.
	default:
		c.copy(func() error { return in.copyFrom(r) })
	}
}

func (c *Cmd) copyOutput(take func(*stream) error, from *stream) {
	c.copy(func() error {
		err := take(from)
		_ = from.Close() // What was not taken must not stop the link.
		return err
	})
}

func toWriter(w io.Writer) func(*stream) error {
	return func(from *stream) error {
		_, err := from.WriteTo(w)
		return err
	}
}

func (c *Cmd) copy(f func() error) {
	c.copying++
	go func() { c.copied <- f() }()
}

// awaitCopies returns the first error of the copying, or ErrWaitDelay.
func (c *Cmd) awaitCopies() error {
	var late <-chan time.Time
	if c.WaitDelay > 0 {
		t := time.NewTimer(c.WaitDelay)
		defer t.Stop()
		late = t.C
	}
	var first error
	for range c.copying {
		select {
		case err := <-c.copied:
			first = cmp.Or(first, err)
		case <-late:
			c.proc.discardOutput()
			return cmp.Or(first, ErrWaitDelay)
		}
	}
	return first
}

// closePipes ends the pipes of a command that did not start.
func (c *Cmd) closePipes(err error) {
	if c.stdin != nil {
		_ = c.stdin.Close() // A stream's Close has no error.
	}
	for _, s := range []*stream{c.stdout, c.stderr} {
		if s != nil {
			s.finish(err)
		}
	}
}

// interrupt ends the command after the end of its context: it calls Cancel, sends signal 9
// if the command still runs, and at last gives up, each after its delay.
func (c *Cmd) interrupt() error {
	err := c.cancel()
	if c.view != nil {
		c.proc.endsWithin(cmp.Or(c.WaitDelay, killWait))
		c.proc.fail(ErrDetached) // Has no effect if the agent has answered.
		return err
	}
	if !c.proc.wasKilled() {
		if c.WaitDelay == 0 || c.proc.endsWithin(c.WaitDelay) {
			return err
		}
		c.proc.kill()
	}
	delay := cmp.Or(c.WaitDelay, killWait)
	if !c.proc.endsWithin(delay) {
		c.proc.fail(fmt.Errorf("%w: %w: no end reported %v after signal 9", c.ctx.Err(), ErrWaitDelay, delay))
	}
	return err
}

func (c *Cmd) cancel() error {
	if c.Cancel == nil {
		return nil
	}
	err := c.Cancel()
	switch {
	case err == nil:
		return c.ctx.Err()
	case errors.Is(err, os.ErrProcessDone):
		return nil
	default:
		return fmt.Errorf("cancel command: %w", err)
	}
}
