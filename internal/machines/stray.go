package machines

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/agentd-go/agentd/sandbox"
)

// Variable is the environment variable that holds the machine's directory in a
// supervisor, and thus in its QEMU and virtiofsd.
const Variable = "AGENTCTL_MACHINE"

const (
	// strayWait is how long the processes of a killed supervisor may take to end by
	// themselves. The kernel kills QEMU at once. Virtiofsd ends after QEMU, when it has
	// closed its files.
	strayWait = 3 * time.Second
	// strayLook is the interval between looks at those processes. Only a process's
	// parent is notified of its end, so we must poll.
	strayLook = 20 * time.Millisecond
)

// strays returns the processes of the machine in dir, without this one.
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

// belongs looks for the variable in a process's environment. The environment of a
// virtiofsd in its own user namespace cannot be read, but its arguments name the shared
// directory.
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

// endStrays ends the processes of the machine's last life. A machine without a state has had
// none: a supervisor writes it before it starts a process. That saves a look at every process
// of the host, which new machines would pay for.
func (m *Machine) endStrays(ctx context.Context) error {
	if _, err := os.Stat(m.file(stateName)); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return endStrays(ctx, m.dir)
}

// endStrays waits for the processes of a killed supervisor to end, and kills the rest: at
// once those that are meant to outlive it.
func endStrays(ctx context.Context, dir string) error {
	if err := sandbox.EndLeft(dir); err != nil {
		return err
	}
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
				kill(pid)
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
