// Package frame reads and writes the fixed header that every message between a
// host and its guest carries, and knows nothing of what is inside the body.
//
//	0      4      8       9
//	+------+------+-------+------ … ------+
//	|length|  id  | flags |     body      |     big endian
//	+------+------+-------+------ … ------+
//	       |<-------- length ------------>|     5 … MaxLength
//
// It is the one place that checks a length, for both directions and both sides,
// and it does so before it allocates anything. Everything that routes by id and
// flags alone (a relay, a multiplexer) needs this package and no decoder, and so
// serves every generation of the protocol.
package frame
