// Package contract checks an agent's answers to frames, by tables and small
// conversations over any link. The agent's tests run it in namespaces; the suite runs
// it on real machines, also against the published agents.
//
// A [Link] is the host's end of a byte link. It stores incoming frames by id, and
// checks each against the protocol's index. A [Peer] is one client on it, which sends
// raw frames on the ids of a slot. A [Behaviour] is a single check; its error says what
// the agent did instead.
//
// Session numbers in a Peer's methods start at 0 in its slot, so that a behaviour does
// not depend on the slot.
package contract
