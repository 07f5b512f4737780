//go:build profile

package main

import (
	"os"
	"os/signal"
	"runtime/pprof"
	"syscall"

	"github.com/agentd-go/agentd/internal/guest/sys"
)

// profileFile is where a profile is left, in the guest's root.
const profileFile = "/agentd.pprof"

// A build with the tag "profile" measures itself: SIGUSR1 begins a CPU profile,
// SIGUSR2 ends it, and is answered when the file is whole by profileFile.done.
// See docs/PERFORMANCE.md.
func init() {
	orders := make(chan os.Signal, 1)
	signal.Notify(orders, syscall.SIGUSR1, syscall.SIGUSR2)
	go profile(orders)
}

func profile(orders <-chan os.Signal) {
	var f *os.File
	for order := range orders {
		var err error
		switch {
		case order == syscall.SIGUSR2 && f != nil:
			pprof.StopCPUProfile()
			err = f.Close()
			f = nil
			if err == nil {
				err = os.WriteFile(profileFile+".done", nil, 0o600)
			}
		case order == syscall.SIGUSR1 && f == nil:
			_ = os.Remove(profileFile + ".done") // Of the profile before.
			if f, err = os.Create(profileFile); err == nil {
				err = pprof.StartCPUProfile(f)
			}
		}
		if err != nil {
			sys.Logf("profile: %v", err)
		}
	}
}
