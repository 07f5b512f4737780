// Package contract is what every agent answers to frames, as tables and small
// conversations that any link can carry: the agent's tests run it in namespaces,
// the machines' suite on real ones, and there against the published agents too.
//
// A [Link] is the host's end of a byte link; it keeps what comes, by id, and holds
// each frame against the protocol's index. A [Peer] is one client on it, that
// speaks raw frames on the ids of a slot. A [Behaviour] is one thing that an agent
// must do; its error says what the agent did instead.
//
// Numbers of sessions in a Peer's methods count from 0 within its slot, so that a
// behaviour does not know which slot it has.
package contract
