// Package ring keeps the newest bytes of a stream: in memory, and the bytes before those in
// a file without a name. Each byte has an offset, counted from the stream's beginning.
//
//	0 ······ start ═══ file ═══ mem ═══ memory ═══ end
//	(gone)
//
// One goroutine appends, any number reads. A full ring forgets its oldest bytes, or makes
// the writer wait until bytes are consumed: see [Config]. A reader whose bytes are gone
// learns where the stream goes on.
//
// # Locks
//
// Ring.mu is never held during input or output. The writer moves start past the bytes
// that it overwrites before it writes, and a reader looks at start after it has read: what
// was overwritten meanwhile is never returned.
package ring
