// Package transfer copies files and trees between this host and machines, or between
// two machines. It also makes and unpacks archives of them.
//
// Both ends are a [Side]: this host's files ([Host]), or a guest's through the file
// operations of its agent ([Guest]). It needs no program in the guest.
//
// A copy is planned first: the plan lists the source and the target, and skips a file
// whose size, time and permissions are equal. So an interrupted copy continues when it
// is run again. Then directories are made, several workers copy files at once, and
// finally the directories get their times and permissions.
//
// A tree that goes to or comes from a machine whose agent has archives moves as one archive in
// place of requests for each file (stream.go): packages pax and tree pack and unpack it on both
// ends. The plan then lists a tree of a machine by one archive without contents (listed.go).
//
// A [Sync] is such a copy of a directory's contents that can also remove what the source does not
// have. It removes last, and only if all was listed and copied.
//
// A file gets its name only when it is complete: it is written as .agentctl-RANDOM in the same
// directory and then renamed. In a machine a sync of its disk comes before the rename, so that a
// killed machine keeps only names of complete files; the files of one second share a sync. The
// number of copied bytes is compared with the file's size. On this host everything is written
// beneath the target through its descriptor ([os.Root]), so that no link, even a concurrent one,
// leads a copy out of it.
//
// A copy keeps permissions, modification times (by requests to the second, the protocol's
// unit), symbolic links, holes, and the owner of a replaced file. Only an [Exact] copy by an
// archive keeps other owners, hard links (otherwise each name becomes a file), extended
// attributes, devices and pipes. What is left out is reported.
package transfer
