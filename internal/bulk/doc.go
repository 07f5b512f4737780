// Package bulk counts the bytes of raw bulk flows (protocol section 12): what may
// be sent, what was consumed, when a flow is whole. It is pure: no bytes, no
// messages, no waiting. Both ends of a link use it, so that both judge alike.
//
// A flow goes one way and begins at offset 0. Its receiver grants credit up to an
// absolute limit and moves that on as bytes are consumed, which means written to
// the file or socket that they are for; its sender stays below the limit. The
// sender says by finish how long the flow is, which may arrive before the last
// records.
//
//	0 ≤ consumed ≤ received = sent ≤ limit ≤ consumed + MaxWindow
//	                 received ≤ final, once that is known
//
// The zero values are flows that nothing may be sent on. Nothing here is safe for
// concurrent use; whoever has a flow guards it.
package bulk
