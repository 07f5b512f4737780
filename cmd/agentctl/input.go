package main

import (
	"errors"
	"os"

	"golang.org/x/term"

	"github.com/agentd-go/agentd/client"
)

// checkTerminal refuses -i and -t without a terminal, before anything is started.
// Without -i a terminal gets no input and is possible everywhere.
func (f *commandFlags) checkTerminal() error {
	if f.tty && f.input && !term.IsTerminal(int(os.Stdin.Fd())) {
		return errors.New("-i and -t: standard input is not a terminal; leave out -t to pass it on as it is")
	}
	return nil
}

// connectInput connects the command's standard input and terminal, and returns a
// function that restores our terminal.
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
	t.follow(func(rows, cols uint16) { _ = c.Resize(rows, cols) }) // Fails only when the command has ended.
	return t.restore, nil
}

// openTerminal reads input with -i. Without -i the command's input stays open and
// empty, as in a container: the end of input would be an echoed ^D.
func (f *commandFlags) openTerminal(c *client.Cmd) (*terminal, error) {
	if f.input {
		t, err := openTerminal(os.Stdin)
		if err != nil {
			return nil, err
		}
		if f.leaveBy == nil {
			c.Stdin = os.Stdin
			return t, nil
		}
		if err := passKeys(c, f.leaveBy); err != nil {
			t.restore()
			return nil, err
		}
		return t, nil
	}
	t := windowOf(os.Stdout, os.Stderr, os.Stdin)
	_, err := c.StdinPipe() // Wait closes the pipe.
	return t, err
}

// windowOf returns the first file that is a terminal, for its size alone.
func windowOf(files ...*os.File) *terminal {
	t := &terminal{sizes: make(chan os.Signal, 1)}
	for _, file := range files {
		if t.file == nil && term.IsTerminal(int(file.Fd())) {
			t.file = file
		}
	}
	return t
}
