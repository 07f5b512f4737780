// Package relay shares one machine's agent among clients on a Unix socket
// (protocol section 5). Frames pass as they are, both ways, and are judged by
// their headers alone. What the relay says itself is made by its owner ([Words]),
// who can encode: this package does not import the protocol.
//
//	client ⇄ socket ⇄ client.read ─▶ slot.out ─▶ mux.Writer ─▶ port
//	                ⇄ client.write ◀─ client.in ◀─ Relay.read ◀─ port
//
// A second port, if the guest has one, carries raw records both ways beside this
// (records.go).
//
// # Who waits for whom
//
// Towards the guest each slot has an outbox of 64 KiB and one frame, and one writer
// serves them by turns, so a client that sends more than its share waits in its
// own socket. From the guest, the one goroutine that reads the port never waits
// for a client. The commands of one that does not read are held back in the guest
// (slow.go), if the agent is ours. Nothing else can be asked for less, so what a
// client does not read all the same is held for it: in memory, then in an unlinked
// file, then the client is disconnected. The bounds are at clientMemory. While no other client
// has sent anything yet, there is nobody to delay: then the port waits for the one
// that does not read, and its commands feel it, as they would without a relay.
//
// # A slot's life
//
//	free ─ connect ─▶ taken ─ leave ─▶ ending ─ commands ended, or 2 s ─▶ closing ─┬─▶ free
//	                                                                     10 s └─▶ stale ─┘
//
//	ending   signal 9 is sent for each command whose end has not been seen
//	closing  core.relay.client.disconnected is sent, and after it a probe: a
//	         request that the guest answers by one terminal frame on the range's
//	         last id. Free when the answer is there and all commands have ended:
//	         the guest answers in order, so nothing older can follow.
//	stale    that took too long. The slot is free as above when it comes after
//	         all, and is taken before that only when no other slot is free: late
//	         frames could reach the new client.
//
// A guest that takes leases (protocol section 13) is told of each client before its
// first frame, ends the commands of one that has left itself, and acknowledges that
// nothing is left: this stands for signals and probe, and a stale slot is never
// taken without it.
//
// A client that comes when all slots are taken is closed without a byte; one that
// comes when some are ending or closing waits for them, 5 s at most.
//
// Frames for a slot that is not taken are dropped. A client that has used its
// range's last id leaves without a probe, since the answer could be its own.
//
// Which sessions are commands cannot be seen from headers: connections end
// without a terminal frame, so what has begun and not ended would grow for ever.
// The owner is asked about each frame that begins a session (Words.IsCommand),
// as reference relays look for the type of the request.
//
// # Ends
//
// A client ends alone: by closing, by a frame of impossible length or with an id
// outside its range, or as above. The reason is logged once if it is not the
// client's own wish. The end of the port, a frame of impossible length from the
// guest and Close end everything; clients first get what was there for them, if
// they take it within a second.
//
// # Locks
//
// Relay.mu guards the slots. Under it inboxes and outboxes are asked and filled
// without waiting for their other side, so what they lock comes after it; client.mu
// and it are never held together.
package relay
