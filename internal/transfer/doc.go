// Package transfer copies files and trees between this host and machines, or
// between two machines, and makes archives of them.
//
// Both ends are a [Side]: this host's files ([Host]) or a guest's, over the file
// operations of its agent ([Guest]). No program of the guest has a part in it.
//
// A copy is planned first: the source is listed, and beside it what is at the
// target already, so that a file whose size, time and permissions are right is
// left alone. That makes an interrupted copy go on when it is run again. Then
// directories are made, files are copied by several workers at once, and last the
// directories get their times and permissions.
//
// Kept are permissions, modification times to the second (the protocol has no
// more), symbolic links as they are, and holes. Not kept are owners, hard links
// (each name becomes a file) and extended attributes. Devices, pipes and sockets
// are reported and left out.
package transfer
