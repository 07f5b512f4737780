package contract

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// A Behaviour is a single check of an agent.
type Behaviour struct {
	Name  string
	Check func(*Peer) error

	// Own says why only our agent is tested; "" means that all are. An agent that hangs
	// or dies in the check could not be tested further.
	Own string

	Machine bool // It needs a real machine's devices.
}

// Behaviours returns all checks of files, connections and the protocol's core. They run
// in this order on one machine, which has busybox's root and runs [Serve].
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

// soon gives a behaviour a short deadline, because an agent that lacks it does not
// answer.
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
