// Package host does on the host what a pod needs beside its machine: the shared
// directory with its mounts, the taps of its network namespace, its cgroup, and the
// hooks of its containers.
//
// The mounts are in the shim's own mount namespace, and the taps have no name to
// keep them: both end with the shim and the machine, however those end.
package host
