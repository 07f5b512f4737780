// Agentd is the first process of a microVM. It brings the machine up as its
// host asks, and then serves the host over one port until it is told to end.
//
// It takes no arguments. Its configuration comes by MSB_* variables on the
// kernel command line or by the first message on the port; see docs/BOOT.md.
// Package internal/guest/life is what it does.
//
// Exit status, for when it is not the first process (as the first it restarts
// the machine): 0 after a shutdown or when the host has closed the port, 1 after
// any error, which is a line on standard error.
package main

import (
	"os"

	"github.com/agentd-go/agentd/internal/guest/life"
	"github.com/agentd-go/agentd/internal/guest/proc"
	"github.com/agentd-go/agentd/internal/guest/sys"
)

// version is reported to the host. The release build sets it.
var version = "0.1.0-dev"

func main() {
	if os.Args[0] == proc.LauncherName {
		os.Exit(proc.Launch(os.Args))
	}
	l := life.New(version)
	run := l.Run
	if os.Args[0] == proc.SecondName {
		run = l.Continue
	}
	err := run()
	if err != nil {
		sys.Logf("%v", err)
	}
	if os.Getpid() == 1 {
		life.End() // Does not return: the death of PID 1 is a kernel panic.
	}
	if err != nil {
		os.Exit(1)
	}
}
