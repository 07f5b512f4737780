// Package files serves operations on files. A [Table] has the handles, the open files and
// directories of all clients. A [Read] or a [Write] moves a file's contents; a [Request] is
// any other operation.
//
// A new operation is a type of [wire.FSOp], a case in client.job (request.go) that
// says which function does it, and that function (operation.go).
//
// # Locks
//
// Table.mu guards all handles and clients. handle.pos guards one file's own position.
// Table.mu may be taken while handle.pos is held, not the other way round.
package files
