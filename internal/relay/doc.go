// Package relay shares one machine's agent among clients on a Unix socket (protocol
// section 5). It passes frames unchanged in both directions and reads only their
// headers. This package does not import the protocol: its owner encodes the relay's own
// frames ([Words]).
//
//	client ⇄ socket ⇄ client.read ─▶ slot.out ─▶ mux.Writer ─▶ port
//	                ⇄ client.write ◀─ client.in ◀─ Relay.read ◀─ port
//
// A second port, if the guest has one, carries raw records both ways beside this
// (records.go).
//
// # Who waits for whom
//
// Towards the guest each slot has an outbox of 64 KiB and one frame, and one writer serves
// one after the other, a quantum each. So a client that sends more than its share waits in
// its own socket. From the guest, the one goroutine that reads the port never waits for a client. If a client does not
// read, the guest holds its commands back (slow.go), if the agent is ours. Other sessions
// cannot be held back, so the relay stores what the client leaves unread: in memory, then in
// an unlinked file. When both are full, it disconnects the client. The bounds are at
// clientMemory. If no other client has sent anything yet, there is nobody to delay: then the
// port waits for the client that does not read, and its commands block as they would without a
// relay.
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
// A guest that takes leases (protocol section 13) is told of each client before the
// client's first frame. When a client has left, the guest ends its commands itself and
// acknowledges that nothing of it is left. The acknowledgement replaces signals and
// probe, and a stale slot is never taken without it.
//
// If all slots are taken, a new client's connection is closed without a byte. If some
// are ending or closing, a new client waits for them, 5 s at most.
//
// Frames for a slot that is not taken are dropped. A client that has used its
// range's last id leaves without a probe, since the answer could be its own.
//
// Headers do not show which sessions are commands. A list of all open sessions would
// grow for ever, because connections end without a terminal frame. So the relay asks
// its owner about each frame that begins a session (Words.IsCommand); reference relays
// look at the type of the request.
//
// # Ends
//
// One client ends when it closes its connection, when it sends a frame of impossible
// length or with an id outside its range, or as above. The reason is logged once,
// unless the client has closed the connection. The end of the port, a frame of
// impossible length from the guest, and Close end all clients. They first get the
// frames that wait for them, if they read them within a second.
//
// # Locks
//
// Relay.mu guards the slots. Inboxes and outboxes are read and filled under it, without
// waiting for their other side, so their locks come after it. client.mu and Relay.mu
// are never held together.
package relay
