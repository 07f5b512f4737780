package sandbox

import (
	"context"
	"errors"

	"github.com/agentd-go/agentd/internal/vmm"
)

// StartSilent starts a machine and says nothing to it: the port is the test's. The
// second result removes what the machine leaves on the host, after its end.
func StartSilent(ctx context.Context, cfg Config) (*vmm.VM, func() error, error) {
	l, _, err := prepare(ctx, cfg.withDefaults())
	if err != nil {
		return nil, nil, err
	}
	vm, err := vmm.Start(ctx, l.machine, vmm.Options{})
	if err != nil {
		return nil, nil, errors.Join(err, l.remove())
	}
	return vm, l.remove, nil
}
