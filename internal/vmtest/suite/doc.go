// Package suite tests a machine from its host's side: every behaviour of commands, the
// state after a boot, and the machine's end.
//
// The behaviours follow the protocol (docs/PROTOCOL.md), not our agent: with
// AGENTD_CONFORMANCE=0.5.5 or 0.6.14 the suite tests that published agent. Where ours
// differs on purpose a table says why, and the published agent must then fail the
// behaviour, so that the table stays true.
package suite
