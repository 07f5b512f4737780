// Package suite is what a machine must do, seen from its host: every behaviour
// of commands, the state that a boot leaves, and how a machine ends.
//
// The behaviours are the protocol's (docs/PROTOCOL.md) and not our agent's: with
// AGENTD_CONFORMANCE=0.5.5 or 0.6.14 they are asked of that published agent. Where ours
// differs on purpose a table says why, and the published agent must then fail
// the behaviour, so that the table stays true.
package suite
