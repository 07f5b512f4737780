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
// What is written has its name when it is whole: a file is written beside its name, as
// .agentctl-RANDOM, and renamed; in a machine after a sync of its disk, which the files of
// a second share, so that a machine that is killed keeps names of whole files alone. What came of a file is compared with the size that it
// claims. On this host everything is written beneath the target by its descriptor
// ([os.Root]), so that no link leads a copy out of it, whoever makes one meanwhile.
//
// Kept are permissions, modification times to the second (the protocol has no
// more), symbolic links as they are, holes, and the owner of a file that is replaced.
// Not kept are other owners, hard links (each name becomes a file) and extended
// attributes. Devices, pipes and sockets are reported and left out.
package transfer
