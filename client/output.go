package client

import (
	"bytes"
	"errors"
	"fmt"
)

// Output runs the command and returns its stdout. If nothing else collects its
// stderr, an [*ExitError] has an excerpt of that.
func (c *Cmd) Output() ([]byte, error) {
	if c.Stdout != nil || c.stdout != nil {
		return nil, errors.New("stdout already set")
	}
	var stdout bytes.Buffer
	c.Stdout = &stdout
	var said *excerpt
	if c.Stderr == nil && c.stderr == nil {
		said = new(excerpt)
		c.Stderr = said
	}
	err := c.Run()
	var exit *ExitError
	if said != nil && errors.As(err, &exit) {
		exit.Stderr = said.bytes()
	}
	return stdout.Bytes(), err
}

// CombinedOutput runs the command and returns its stdout and stderr together.
func (c *Cmd) CombinedOutput() ([]byte, error) {
	if c.Stdout != nil || c.stdout != nil {
		return nil, errors.New("stdout already set")
	}
	if c.Stderr != nil || c.stderr != nil {
		return nil, errors.New("stderr already set")
	}
	var both bytes.Buffer
	c.Stdout, c.Stderr = &both, &both
	err := c.Run()
	return both.Bytes(), err
}

// excerptEnd is how much of a long stderr an error keeps of each end, as in
// package os/exec: some hundred lines.
const excerptEnd = 32 << 10

// excerpt keeps the beginning and the end of what is written to it.
type excerpt struct {
	head, tail []byte
	dropped    int64
}

// Write never fails.
func (e *excerpt) Write(p []byte) (int, error) {
	n := min(len(p), excerptEnd-len(e.head))
	e.head = append(e.head, p[:n]...)
	e.tail = append(e.tail, p[n:]...)
	// Move rarely: only when half of it is surplus.
	if len(e.tail) > 2*excerptEnd {
		e.trim()
	}
	return len(p), nil
}

func (e *excerpt) trim() {
	if surplus := len(e.tail) - excerptEnd; surplus > 0 {
		e.tail = e.tail[:copy(e.tail, e.tail[surplus:])]
		e.dropped += int64(surplus)
	}
}

func (e *excerpt) bytes() []byte {
	e.trim()
	out := bytes.Clone(e.head)
	if e.dropped > 0 {
		out = fmt.Appendf(out, "\n... omitting %d bytes ...\n", e.dropped)
	}
	return append(out, e.tail...)
}
