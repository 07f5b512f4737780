// Package flow moves the bytes of a stream between a host and a guest, one
// direction at a time. Both ends of a link use it, so that both apply the same rules.
//
// A [Sender] makes frames from bytes, a [Receiver] checks the frames that arrive. Each has
// two implementations: data messages, which have no credit, and raw records (protocol
// section 12). A session has records if the offer of its request was accepted, and
// messages otherwise.
//
// A flow of records begins at offset 0. Its receiver grants credit up to an absolute
// limit; its sender stays below the limit. The receiver raises the limit as bytes are
// consumed, which means written to their file or socket. The sender says by a finish how
// long the flow is; a finish may arrive before the last records.
//
//	0 ≤ consumed ≤ received = sent ≤ limit ≤ consumed + MaxWindow
//	                 received ≤ final, once that is known
//
// Senders and receivers may be used by several goroutines. Neither waits; the
// functions that a receiver is given are called under its lock.
package flow
