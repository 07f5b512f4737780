package machines

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// Variable is set in the environment of a supervisor, and so of its QEMU and
// virtiofsd, to the machine's directory.
const Variable = "AGENTCTL_MACHINE"

const (
	// strayWait is how long what a killed supervisor leaves may take to go: QEMU is
	// killed by the kernel at once, and virtiofsd ends when its link does, after it
	// has let go of its files.
	strayWait = 3 * time.Second
	// strayLook is how often to look whether it has: nobody but its parent is told.
	strayLook = 20 * time.Millisecond
)

// strays are the processes that belong to a machine in dir, without ourselves.
func strays(dir string) (pids []int) {
	found, _ := filepath.Glob("/proc/[0-9]*") // The pattern is well formed.
	for _, p := range found {
		pid, err := strconv.Atoi(filepath.Base(p))
		if err == nil && pid != os.Getpid() && belongs(p, dir) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// belongs looks for the variable. A virtiofsd in a user namespace of its own shows
// its environment to nobody, but its arguments name what it shares.
func belongs(proc, dir string) bool {
	env, _ := os.ReadFile(filepath.Join(proc, "environ"))
	for entry := range bytes.SplitSeq(env, []byte{0}) {
		if string(entry) == Variable+"="+dir {
			return true
		}
	}
	args, _ := os.ReadFile(filepath.Join(proc, "cmdline"))
	program, _, _ := bytes.Cut(args, []byte{0})
	return bytes.Contains(program, []byte("virtiofsd")) && bytes.Contains(args, []byte(dir+"/"))
}

// endStrays waits for what a killed supervisor has left, then ends it.
func endStrays(ctx context.Context, dir string) error {
	deadline := time.Now().Add(strayWait)
	tick := time.NewTicker(strayLook)
	defer tick.Stop()
	for {
		left := strays(dir)
		if len(left) == 0 {
			return nil
		}
		if time.Now().After(deadline.Add(strayWait)) {
			return errors.New("processes of the machine cannot be ended")
		}
		if time.Now().After(deadline) {
			for _, pid := range left {
				_ = syscall.Kill(pid, syscall.SIGKILL) // It may be gone.
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
