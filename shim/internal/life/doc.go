// Package life is the shim's own life: how containerd starts it, asks what it is,
// and clears up after it (the commands start and delete, the flag -info).
//
// A pod has one shim. It is started for the pod's first container and answers for
// the others by its socket. Its process is made by start in the namespaces and the
// cgroup of the pod: a mount namespace of its own, in which the host's mounts appear
// and whose mounts the host does not see; the pod's network namespace; the pod's
// cgroup, so that the machine is charged to the pod.
//
// What it leaves in the host's files is one directory below [RunDir], which the
// bundle names in the file "agentd-pod.json".
package life
