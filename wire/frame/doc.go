// Package frame reads and writes the fixed header of every message between a host and
// its guest. It does not interpret the body.
//
//	0      4      8       9
//	+------+------+-------+------ … ------+
//	|length|  id  | flags |     body      |     big endian
//	+------+------+-------+------ … ------+
//	       |<-------- length ------------>|     5 … MaxLength
//
// Only this package checks lengths, for both directions and both sides, and it does so
// before it allocates anything. A relay or a multiplexer, which routes by id and flags
// alone, needs this package and no decoder, and so serves every generation of the
// protocol.
package frame
