package sandbox

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/internal/image"
	"github.com/agentd-go/agentd/internal/vmm"
	"github.com/agentd-go/agentd/wire"
)

// StartSilent starts a machine and sends nothing to it: the test uses the port. The
// second result removes the machine's files after its end.
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

// StartTwin starts a machine from its template, made if it is missing, with the words
// for its freshness that are given, nil for none: Start would always have its own.
func StartTwin(ctx context.Context, cfg Config, fresh *wire.Fresh) (*client.Client, func() error, error) {
	l, cfg, err := prepare(ctx, cfg.withDefaults())
	if err != nil {
		return nil, nil, err
	}
	s := l.template(ctx)
	if s == nil {
		return nil, nil, errors.Join(l.cold, l.remove())
	}
	defer func() { _ = s.Close() }()
	vm, err := vmm.Start(ctx, l.machine, vmm.Options{From: &s.Files})
	if err != nil {
		return nil, nil, errors.Join(err, l.remove())
	}
	end := func() error {
		vm.Kill()
		return l.remove()
	}
	b := *cfg.bootstrap()
	b.Fresh = fresh
	c, err := client.Boot(ctx, vm.Port(), client.Handshake{Bootstrap: &b, Generation: 7})
	if err != nil {
		return nil, nil, errors.Join(err, end())
	}
	return c, end, nil
}

// TemplateDir is the directory of the machine's template.
func TemplateDir(ctx context.Context, cfg Config) (string, error) {
	l, _, err := prepare(ctx, cfg.withDefaults())
	if err != nil {
		return "", err
	}
	key, err := l.templateKey()
	return filepath.Join(os.Getenv(image.CacheVariable), templateKind, key), errors.Join(err, l.remove())
}

// WhyCold is what of a configuration stands in the way of a template.
func (c Config) WhyCold() error { return c.whyCold() }

// ColdWith is what Machine.Cold says of a machine in a directory with an accelerator, before
// a template is looked for.
func (c Config) ColdWith(accel vmm.Accel, dir string) error {
	l := &layout{dir: dir, room: smallDisks, machine: vmm.Machine{Accel: accel}}
	l.mayWarm(c)
	return l.cold
}

// Fresh is what Start makes.
func Fresh() *wire.Fresh { return fresh() }

// MissedPatch is missedPatch.
func MissedPatch(console string) bool { return missedPatch(console) }

// BlamesTemplate reports whether a start from a template that failed for a reason of the guest
// removes the template.
func BlamesTemplate(reason string) bool {
	_, blamed := errors.AsType[*faultError](blameBoot(&BootError{Reason: reason}))
	return blamed
}
