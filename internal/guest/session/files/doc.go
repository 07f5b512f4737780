// Package files serves operations on files. What a client has open are handles, in a
// [Table]. A [Read] or [Write] is the moving of a file's contents, a [Request] any other
// operation.
//
// # Locks
//
// Table.mu guards all handles and clients; handle.pos guards one file's own
// position, and Table.mu may be taken under it but not the other way round.
package files
