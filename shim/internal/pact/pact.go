// Package pact is what the two sides of a pod tell each other: the shim on the host
// and agentd-pod, the program in the pod's machine that owns its containers.
//
// Both are built from one tree and travel together, so the pact has no versions. The
// calls are containerd's own task service by ttrpc, with the
// differences of this package: a bundle is a directory of the guest, the streams of
// a process go by connections of their own, and [Service] has what containerd's
// service lacks.
package pact

// The places in the guest.
const (
	// Program is agentd-pod.
	Program = "/sbin/agentd-pod"
	// Run holds what the running pod has made: in memory, gone with the machine.
	Run = "/run/agentd-pod"
	// Net is the network namespace of all containers. The agent and agentd-pod stay
	// outside, so no container reaches their ports.
	Net = Run + "/net"
	// Shm is the memory that the containers of a pod share as /dev/shm.
	Shm = Run + "/shm"
	// Etc has the files of a pod without a pause container that its containers have in
	// their /etc.
	Etc = Run + "/etc"
	// Containers has a directory for each container, with its config.json and rootfs.
	Containers = "/containers"
	// Volumes is where the share of VolumesTag is mounted.
	Volumes = "/run/agentd-volumes"
	// Cgroup is the parent of the containers' cgroups.
	Cgroup = "/pod"
)

// VolumesTag is the share with the volumes.
const VolumesTag = "volumes"

// OfContainer begins the path of a namespace that is another container's: its id
// follows.
const OfContainer = "container:"

// OfPod is the path of a namespace that the pod itself holds: see [Held].
const OfPod = "pod:"

// Hold is the argument with which agentd-pod is the process that holds a pod's
// namespaces; its [Held] follows as JSON.
const Hold = "hold"

// A Held is what a pod without a pause container has in the guest: namespaces (ipc, pid
// and uts) that no container holds, and the files of Etc.
type Held struct {
	Hostname string            `json:",omitempty"`
	Sysctls  map[string]string `json:",omitempty"` // Of the ipc and uts namespaces.
	Files    map[string]string `json:",omitempty"` // In Etc, by name.
}

// A Start is what agentd-pod reads from its input, as JSON.
type Start struct {
	Network Network
	// ShmBytes is the size of Shm; 0 is 64 MiB, as runtimes have it.
	ShmBytes int64 `json:",omitempty"`
	// Sysctls of the pod's network, by their names with dots.
	Sysctls map[string]string `json:",omitempty"`
	// Held is nil for a pod whose first container holds its namespaces.
	Held *Held `json:",omitempty"`
}

// A Ready is what agentd-pod answers on its output, a line of JSON: the ports on
// its loopback, or why it cannot go on.
type Ready struct {
	Control int    `json:",omitempty"`
	Streams int    `json:",omitempty"`
	Error   string `json:",omitempty"`
}

// A Network is the pod's network namespace of the host as the guest is to have it.
type Network struct {
	Links      []Link      `json:",omitempty"`
	Routes     []Route     `json:",omitempty"`
	Neighbours []Neighbour `json:",omitempty"`
}

// A Link is one interface, found in the guest by its MAC.
type Link struct {
	Name      string
	MAC       string // As net.HardwareAddr prints it.
	MTU       int
	Addresses []string // CIDR.
}

// A Route is one entry of the main table.
type Route struct {
	Link        string
	Destination string `json:",omitempty"` // CIDR; "" is the default route.
	Gateway     string `json:",omitempty"`
	Source      string `json:",omitempty"`
	Scope       int    `json:",omitempty"`
	Priority    int    `json:",omitempty"`
	MTU         int    `json:",omitempty"`
	OnLink      bool   `json:",omitempty"`
	IPv6        bool   `json:",omitempty"`
}

// A Neighbour is a permanent entry of the neighbour table.
type Neighbour struct {
	Link string
	IP   string
	MAC  string
}

// A Stream is the first line, as JSON, on a connection to the port of streams. The
// answer is a line: "ok", or what is wrong. After that a stdin goes in, until the
// host closes its side; a stdout or stderr comes out, until its end; Dial is a
// connection from within the pod's network, both ways.
type Stream struct {
	Container string `json:",omitempty"`
	Exec      string `json:",omitempty"`
	Name      string // Stdin, Stdout, Stderr or Dial.
	Address   string `json:",omitempty"` // Of a Dial.
}

// The names of streams.
const (
	Stdin  = "stdin"
	Stdout = "stdout"
	Stderr = "stderr"
	Dial   = "dial"
)

// MaxLine bounds the lines of JSON that begin a stream and an answer to it.
const MaxLine = 4096

// Service is the ttrpc service with the rest, and Next its one method: it waits for
// the pod's next event and returns it as containerd's envelope.
const (
	Service = "agentd.pod.v1.Pod"
	Next    = "Next"
)
