package contract

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// A Behaviour is one thing that an agent must do.
type Behaviour struct {
	Name  string
	Check func(*Peer) error

	// Own says why only our agent is asked; "" is everybody. An agent that hangs
	// or dies of the question could not be asked anything else.
	Own string

	Machine bool // It needs the devices of a machine of its own.
}

// Behaviours are all that every agent must do with files, connections and the
// protocol's core. They run in this order on one machine, whose root is busybox's
// and on which [Serve] runs.
func Behaviours() []Behaviour {
	all := slices.Concat(core(), filePaths(), fileHandles(), fileStreams(), fileBounds(), connections(), departures())
	asked := map[string]bool{}
	for i := range all {
		for asked[all[i].Name] { // An operation that is asked for twice.
			all[i].Name += " again"
		}
		asked[all[i].Name] = true
	}
	return all
}

// soon gives a behaviour a short time, where an agent that lacks it shows that by
// not answering.
func soon(b Behaviour) Behaviour {
	const limit = 15 * time.Second
	check := b.Check
	b.Check = func(p *Peer) error {
		ctx, cancel := context.WithTimeout(p.Ctx, limit)
		defer cancel()
		return check(&Peer{p.Link, ctx, p.slot})
	}
	return b
}

// same is an error if two texts differ.
func same(what, got, want string) error {
	if got == want {
		return nil
	}
	return fmt.Errorf("%s: got %.300q, want %.300q", what, got, want)
}

// first returns the first error of calls in order.
func first(calls ...func() error) error {
	for _, c := range calls {
		if err := c(); err != nil {
			return err
		}
	}
	return nil
}
