package host

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// hookTime is for a hook that names no time of its own: what sets up a network may
// wait for others.
const hookTime = 2 * time.Minute

// RunHooks runs hooks of the host, in their order, with the container's state as
// their input. They run in the namespaces of the shim, which are the pod's network
// and a mount namespace of its own.
func RunHooks(ctx context.Context, kind string, hooks []specs.Hook, state specs.State) error {
	state.Version = specs.Version
	input, err := json.Marshal(state)
	if err != nil {
		return err
	}
	for i, h := range hooks {
		if err := runHook(ctx, h, input); err != nil {
			return fmt.Errorf("hook %s[%d] %s: %w", kind, i, h.Path, err)
		}
	}
	return nil
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
