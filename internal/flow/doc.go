// Package flow moves the bytes of a stream between a host and a guest, one
// direction at a time. Both ends of a link use it, so that both judge alike.
//
// A [Sender] makes frames of bytes, a [Receiver] judges what arrives. Each has two
// implementations: data messages, which have no credit, and raw records (protocol
// section 12). Whether a request's offer is taken up decides once which of them a
// session has.
//
// A flow of records begins at offset 0. Its receiver grants credit up to an
// absolute limit and moves the limit on as bytes are consumed, which means written
// to the file or socket that they are for; its sender stays below the limit. The
// sender says by a finish how long the flow is, which may arrive before the last
// records.
//
//	0 ≤ consumed ≤ received = sent ≤ limit ≤ consumed + MaxWindow
//	                 received ≤ final, once that is known
//
// Senders and receivers may be used by several goroutines. Neither waits; the
// functions that a receiver is given are called under its lock.
package flow
