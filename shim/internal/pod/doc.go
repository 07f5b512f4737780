// Package pod is one pod on the host: its machine, what the machine sees of the
// host, and its containers with their processes.
//
// A [Pod] boots its machine for the first container and ends it after the last one.
// It does not know containerd's services: package service speaks those.
//
// Who ends what: a process's end comes from the guest, or with the machine's end for
// all of them (status 137). A [Process] sends its exit once, after its start was
// told: [Process.Done] is closed then. The machine's end is never waited for with a
// lock held.
//
// Locks: Pod.mu guards the maps and the machine's fields; Pod.making is held while a
// container is made or removed, so that those see each other whole. Process.mu
// guards a process's state; Process.order is held over a start, so that its exit is
// told after it.
package pod
