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

// A terminal is ours. With input it is in raw mode: every key goes to the command.
type terminal struct {
	file  *os.File    // nil is none, of no size.
	saved *term.State // nil is as it was.
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

// restore gives the terminal back as it was.
func (t *terminal) restore() {
	t.once.Do(func() {
		signal.Stop(t.sizes)
		close(t.sizes)
		if t.saved != nil {
			_ = term.Restore(int(t.file.Fd()), t.saved) // A terminal that is gone needs nothing.
		}
	})
}

// size is the terminal's size, of 0 where it has none to tell.
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
	signal.Notify(t.sizes, syscall.SIGWINCH)
	go func() {
		for range t.sizes {
			f(t.size())
		}
	}()
}

// interrupt is the signal of ^C.
const interrupt = syscall.SIGINT

// signals are those that are sent to us: the first of a kind goes to the command,
// once there is one; a second ^C, or any before that, ends the machine.
type signals struct {
	ch     chan os.Signal
	pipes  chan os.Signal // Nobody reads it: see output.
	cancel context.CancelCauseFunc

	mu      sync.Mutex
	deliver func(sig syscall.Signal)
	pressed int
}

func catchSignals(cancel context.CancelCauseFunc) *signals {
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
	return s
}

// to says who gets the signals from now on.
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
}

// An output is where a command's goes. When nobody reads it any more the command has
// no reader either: we end as SIGPIPE would have ended us, but leave nothing behind.
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
