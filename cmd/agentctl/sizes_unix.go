//go:build unix

package main

import (
	"os"
	"os/signal"
	"syscall"
)

// notifySizes sends a value for each change of the terminal's size.
func notifySizes(to chan<- os.Signal) { signal.Notify(to, syscall.SIGWINCH) }
