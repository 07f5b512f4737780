package sandbox

import (
	"context"
	"fmt"
)

// MaxSpares bounds the spares of a [Pool]: a mistaken number must not fill the host's
// memory.
const MaxSpares = 256

// A PoolConfig describes a [Pool].
type PoolConfig struct {
	// Machine describes every machine of the pool. It must not name what only one machine
	// can have: Files, Socket, PortSocket, Survive, ConsoleFile, Upper.Disk, Taps, or a disk that
	// the machine writes to.
	Machine Config

	// Spares is how many machines are kept ready, 1 to MaxSpares.
	Spares int

	// Log is called with each failure that no caller of Get is told: of a spare that was
	// to be started, or that has ended by itself. It must neither block nor use the pool;
	// nil is allowed.
	Log func(error)
}

// A Pool keeps machines ready, for servers that need one at once. All of its methods may be
// called at once.
//
// A spare is a machine that has started and that nobody has used. Where templates are
// possible (see [Config].Warm) all spares share most of their memory on the host. For each
// machine that leaves the pool another one is started in the background, two at a time.
// After failures in a row that is delayed, by up to a minute.
type Pool struct{ spares spares[*Machine] }

// NewPool checks the configuration, and starts to make the spares in the background. The
// caller closes the pool.
func NewPool(cfg PoolConfig) (*Pool, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	p := &Pool{spares[*Machine]{
		want:  cfg.Spares,
		start: func(ctx context.Context) (*Machine, error) { return Start(ctx, cfg.Machine) },
		ended: (*Machine).Done,
		end:   (*Machine).Kill, // It has nothing to lose.
		log:   cfg.Log,
	}}
	p.spares.open()
	return p, nil
}

// Get returns a machine that has just started, at once if a spare is ready. Otherwise it
// waits for the next one, until ctx ends; its error is that of the start which has failed
// meanwhile, or [ErrPoolClosed]. The caller closes the machine, which does not depend on
// the pool any longer.
func (p *Pool) Get(ctx context.Context) (*Machine, error) { return p.spares.get(ctx) }

// Ready returns how many spares are ready.
func (p *Pool) Ready() int { return p.spares.count() }

// Close ends the spares and waits for their end. Machines that Get has returned go on.
// A second Close does nothing.
func (p *Pool) Close() error { return p.spares.close() }

func (c PoolConfig) check() error {
	if c.Spares < 1 || c.Spares > MaxSpares {
		return fmt.Errorf("a pool with %d spares: want 1 to %d", c.Spares, MaxSpares)
	}
	if err := c.Machine.checkShareable(); err != nil {
		return err
	}
	return c.Machine.Check()
}

// checkShareable returns an error that names what of the configuration only one machine can
// have.
func (c Config) checkShareable() error {
	for _, own := range []struct{ name, value string }{
		{"Files", c.Files}, {"Socket", c.Socket}, {"PortSocket", c.PortSocket}, {"Survive", c.Survive}, {"ConsoleFile", c.ConsoleFile}, {"Upper.Disk", c.Upper.Disk},
	} {
		if own.value != "" {
			return fmt.Errorf("%s %s: a pool's machines cannot share it", own.name, own.value)
		}
	}
	if len(c.Taps) > 0 {
		return fmt.Errorf("interface %s: a pool's machines cannot share it", c.Taps[0].Name)
	}
	for _, d := range c.Disks {
		if !d.ReadOnly {
			return fmt.Errorf("disk %s: a pool's machines cannot share it, unless they only read it", d.Path)
		}
	}
	return nil
}
