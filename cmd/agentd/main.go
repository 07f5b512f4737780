// Agentd is the first process of a microVM. It brings the machine up as its
// host asks, and then serves the host over one port until it is told to end.
//
// It takes no arguments. Its configuration comes by MSB_* variables on the
// kernel command line or by the first message on the port; see docs/BOOT.md.
//
// Exit status, for when it is not the first process (as the first it restarts
// the machine): 0 after a shutdown or when the host has closed the port, 1 after
// any error, which is a line on standard error.
package main

import (
	"os"

	"github.com/agentd-go/agentd/internal/guest/agent"
	"github.com/agentd-go/agentd/internal/guest/boot"
	"github.com/agentd-go/agentd/internal/guest/proc"
	"github.com/agentd-go/agentd/internal/guest/sys"
)

// version is what the host is told; the release build sets it.
var version = "0.1.0-dev"

func main() {
	if os.Args[0] == proc.RelayName {
		os.Exit(proc.Relay(os.Args))
	}
	g := &guest{started: sys.BootTime(), debug: parseDebug(os.Getenv(debugVariable))}
	err := g.run()
	if err != nil {
		logf("%v", err)
	}
	if os.Getpid() == 1 {
		g.end() // Does not return: the death of PID 1 is a kernel panic.
	}
	if err != nil {
		os.Exit(1)
	}
}

// run is the life of a machine, up to the point where it ends.
func (g *guest) run() error {
	if os.Args[0] == proc.SecondName {
		return g.beside()
	}
	if err := g.enterRoot(); err != nil {
		return phase("early init failed", err)
	}
	if err := g.configure(); err != nil {
		return g.told(err)
	}
	if err := g.bringUp(); err != nil {
		err = g.told(phase("init failed", err))
		g.letGo()
		return err
	}
	if g.machine.Init != nil {
		err := phase("handoff failed", g.handOver()) // Returns only if it failed.
		g.killAll()
		err = g.told(err)
		g.letGo()
		return err
	}
	if err := g.bind(); err != nil {
		err = g.told(phase("bulk transport binding failed", err))
		g.letGo()
		return err
	}
	end, err := g.serve()
	g.takeDown(end)
	return phase("agent loop error", err)
}

// takeDown ends the commands and leaves the file systems clean.
func (g *guest) takeDown(end agent.End) {
	if end == agent.Shutdown {
		g.finish(shutdownGrace)
	}
	if os.Getpid() != 1 {
		return
	}
	g.killAll()
	g.machine.Down(downDeadline)
}

// letGo leaves clean what a boot that failed has mounted until then: there may
// be disks among it.
func (g *guest) letGo() {
	if os.Getpid() == 1 {
		g.machine.Down(downDeadline)
	}
}

// enterRoot changes to the real root if the kernel started us from another.
func (g *guest) enterRoot() error {
	if spec := os.Getenv(boot.RootVariable); spec != "" {
		return boot.EnterRoot(spec)
	}
	return nil
}
