package main

import (
	"errors"
	"os"

	"golang.org/x/term"

	"github.com/agentd-go/agentd/client"
)

// checkTerminal refuses, before anything is started, keys that nobody can press.
// Without -i a terminal has no keys, and is possible everywhere.
func (f *commandFlags) checkTerminal() error {
	if f.tty && f.input && !term.IsTerminal(int(os.Stdin.Fd())) {
		return errors.New("-i and -t: standard input is not a terminal; leave out -t to pass it on as it is")
	}
	return nil
}

// connectInput gives the command its standard input and its terminal, and returns
// what gives ours back as it was.
func (f *commandFlags) connectInput(c *client.Cmd) (restore func(), err error) {
	if !f.tty {
		if f.input {
			c.Stdin = os.Stdin
		}
		return func() {}, nil
	}
	t, err := f.openTerminal(c)
	if err != nil {
		return nil, err
	}
	c.TTY, c.AddEnv = true, ownTerm(f.env)
	c.Rows, c.Cols = t.size()
	t.follow(func(rows, cols uint16) { _ = c.Resize(rows, cols) }) // A command that is over has no size.
	return t.restore, nil
}

// openTerminal takes the keys with -i. Without, the command waits for keys in vain,
// as it does in a container: an end of the input would be a ^D that is echoed.
func (f *commandFlags) openTerminal(c *client.Cmd) (*terminal, error) {
	if f.input {
		c.Stdin = os.Stdin
		return openTerminal(os.Stdin)
	}
	t := &terminal{sizes: make(chan os.Signal, 1)}
	for _, file := range []*os.File{os.Stdout, os.Stderr, os.Stdin} {
		if t.file == nil && term.IsTerminal(int(file.Fd())) {
			t.file = file
		}
	}
	_, err := c.StdinPipe() // Which Wait closes.
	return t, err
}
