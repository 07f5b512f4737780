package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/term"
)

// A terminal is our own terminal. With input it is in raw mode: every key goes to the
// command.
type terminal struct {
	file  *os.File    // nil means no terminal.
	saved *term.State // nil means that the mode was not changed.
	once  sync.Once
	sizes chan os.Signal
}

// openTerminal puts the terminal into raw mode until restore.
func openTerminal(f *os.File) (*terminal, error) {
	saved, err := term.MakeRaw(int(f.Fd()))
	if err != nil {
		return nil, err
	}
	return &terminal{file: f, saved: saved, sizes: make(chan os.Signal, 1)}, nil
}

// restore restores the terminal's mode.
func (t *terminal) restore() {
	t.once.Do(func() {
		signal.Stop(t.sizes)
		close(t.sizes)
		if t.saved != nil {
			_ = term.Restore(int(t.file.Fd()), t.saved) // Fails only if the terminal is gone.
		}
	})
}

// size returns the terminal's size, or zeros if it is unknown.
func (t *terminal) size() (rows, cols uint16) {
	if t.file == nil {
		return 0, 0
	}
	width, height, err := term.GetSize(int(t.file.Fd()))
	if err != nil {
		return 0, 0
	}
	return uint16(height), uint16(width)
}

// follow calls f with every new size until restore.
func (t *terminal) follow(f func(rows, cols uint16)) {
	notifySizes(t.sizes)
	go func() {
		for range t.sizes {
			f(t.size())
		}
	}()
}

// interrupt is the signal that ^C sends.
const interrupt = syscall.SIGINT

// signals handles the signals to this process. The first of each kind goes to the
// command, if it has started. A second ^C, or any signal before the command, ends the
// machine.
type signals struct {
	ch     chan os.Signal
	pipes  chan os.Signal // Never read; see output.
	cancel context.CancelCauseFunc

	mu      sync.Mutex
	deliver func(sig syscall.Signal)
	pressed int
}

// catchSignals handles signals until stop. They may end the context that it returns.
func catchSignals(ctx context.Context) (context.Context, *signals) {
	ctx, cancel := context.WithCancelCause(ctx)
	s := &signals{ch: make(chan os.Signal, 1), pipes: make(chan os.Signal, 1), cancel: cancel}
	signal.Notify(s.ch, interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	signal.Notify(s.pipes, syscall.SIGPIPE)
	go func() {
		for sig := range s.ch {
			number, ok := sig.(syscall.Signal)
			if ok {
				s.handle(number)
			}
		}
	}()
	return ctx, s
}

// to sets the function that gets the signals from now on.
func (s *signals) to(deliver func(sig syscall.Signal)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deliver = deliver
}

func (s *signals) handle(sig syscall.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sig == interrupt || sig == syscall.SIGTERM {
		s.pressed++
	}
	if s.deliver == nil || s.pressed > 1 {
		s.cancel(&statusError{exitSignal + int(sig), "ended by " + sig.String()})
		return
	}
	s.deliver(sig)
}

func (s *signals) stop() {
	signal.Stop(s.pipes)
	signal.Stop(s.ch)
	close(s.ch)
	s.cancel(nil)
}

// An output passes a command's output on. If its reader has gone, we end with the
// status of SIGPIPE, after the machine has been cleaned up.
type output struct {
	*os.File
	signals *signals
}

func (o output) Write(p []byte) (int, error) {
	n, err := o.File.Write(p)
	if errors.Is(err, syscall.EPIPE) {
		o.signals.cancel(&statusError{status: exitSignal + int(syscall.SIGPIPE)})
	}
	return n, err
}
