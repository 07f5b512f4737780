// Package hooks lets tests of this module reach what users of package sandbox have no
// need of: its API does not show it. Package sandbox fills the package in when a program
// begins; nothing else writes to it.
package hooks

import (
	"net"

	"github.com/agentd-go/agentd/wire"
)

// A Machine is what a test adds to a sandbox.Config.
type Machine struct {
	Card bool // A network card, eth0, that is connected to nothing.

	// ExtraWords go on the kernel command line as they are, after the others: the
	// guest's environment, to the agent. A word that begins with MSB_ configures a machine
	// by environment.
	ExtraWords []string
	// Bootstrap replaces the message that the configuration would make.
	Bootstrap *wire.Bootstrap

	// Port, if it is set, is given the byte link to the guest before its first byte and
	// returns what is to be used in its place: it can watch and speak itself.
	Port func(net.Conn) net.Conn

	// Foreign is set for an agent that is not ours: it is started from the root itself,
	// since it cannot change to another.
	Foreign bool
}

// Of returns the hooks of a *sandbox.Config, and nil for anything else.
var Of func(config any) *Machine

// With returns a sandbox.Config with these hooks in place of its own.
func With[Config any](config Config, m Machine) Config {
	*Of(&config) = m
	return config
}
