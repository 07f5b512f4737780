package host

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// hookTime is for a hook that names no time of its own: what sets up a network may
// wait for others.
const hookTime = 2 * time.Minute

// RunHooks runs hooks of the host, in their order, with the container's state as
// their input. They run in the namespace network and where origin leads,
// those of containerd, as the specification has it: one that sets up the pod's network
// makes the other end of it there.
func RunHooks(ctx context.Context, origin Origin, network *os.File, kind string, hooks []specs.Hook, state specs.State) error {
	state.Version = specs.Version
	input, err := json.Marshal(state)
	if err != nil {
		return err
	}
	for i, h := range hooks {
		if err := inRuntime(origin, network, func() error { return runHook(ctx, h, input) }); err != nil {
			return fmt.Errorf("hook %s[%d] %s: %w", kind, i, h.Path, err)
		}
	}
	return nil
}

// inRuntime calls f on a thread in the namespaces of containerd, which ends with it.
func inRuntime(origin Origin, network *os.File, f func() error) error {
	return OnThread(func() error {
		if err := unix.Setns(int(network.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter the network namespace of the host: %w", err)
		}
		if err := origin.enter(); err != nil {
			return err
		}
		return f()
	})
}

func runHook(ctx context.Context, h specs.Hook, input []byte) error {
	limit := hookTime
	if h.Timeout != nil {
		limit = time.Duration(*h.Timeout) * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, h.Path)
	if len(h.Args) > 0 {
		cmd.Args = h.Args
	}
	cmd.Env, cmd.Stdin, cmd.WaitDelay = h.Env, bytes.NewReader(input), time.Second
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}
