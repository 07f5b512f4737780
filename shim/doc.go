// Package shim is the module of containerd-shim-agentd-v2: containerd's pods in
// machines, one machine for each pod. It is a module of its own so that agentctl and
// the guest's agent take none of its dependencies.
//
// # Who owns what
//
//	containerd ─ttrpc─▶ service ─▶ pod ─▶ sandbox.Machine ─▶ QEMU, virtiofsd
//	                       │        ├───▶ host: shared directory, taps, cgroup, hooks
//	                       │        └───▶ stream: fifos and logging programs
//	                       └ events ◀────┘
//	in the machine: agentd ─▶ agentd-pod (guest) ─▶ runc's library ─▶ containers
//
// The shim is one process for each pod. It holds the machine; the kernel ends QEMU
// with it, and with them the file servers, the taps and the mounts, which are in a
// mount namespace of its own. What remains is one directory and the pod's cgroups:
// the command "delete" removes them.
//
// In the machine agentd is the first process, and agentd-pod a command of its. Its
// calls are containerd's task service (package pact). The control connection and each
// stream are connections of the agent's (client.Client.DialContext) to ports of the
// machine's own loopback. The containers are in another network namespace, so they
// reach none of them.
//
// # What bounds it
//
//	events for containerd             1,024, then the newest are dropped
//	output of a process               64 KiB in its pipe, 1 to 4 MiB in the link, 64 KiB in the fifo
//	start of agentd-pod               60 s
//	end of a machine                  5 s, then it is killed
//	output after a process's end      10 s, when the process is deleted
//	root file system of the machine   64 MiB of directories and configurations
package shim
