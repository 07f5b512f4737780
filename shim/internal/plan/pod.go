package plan

import (
	"path"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/agentd-go/agentd/shim/internal/pact"
)

const devShm = "/dev/shm"

// podMounts adds what containerd mounts in each container of a pod, and leaves to a
// shim that makes the pod: the shared memory, in place of one of the container's own,
// and the files of /etc. What the container has there itself stays.
func podMounts(mounts []specs.Mount, readOnly bool) []specs.Mount {
	mounts = slices.DeleteFunc(slices.Clone(mounts), func(m specs.Mount) bool { return m.Destination == devShm && m.Type == "tmpfs" })
	mode := "rw"
	if readOnly {
		mode = "ro"
	}
	add := func(destination, source, mode string) {
		if !slices.ContainsFunc(mounts, func(m specs.Mount) bool { return path.Clean(m.Destination) == destination }) {
			mounts = append(mounts, specs.Mount{Destination: destination, Type: "bind", Source: source, Options: []string{"rbind", "rprivate", mode}})
		}
	}
	add(devShm, pact.Shm, "rw")
	for _, name := range []string{"hostname", "hosts", "resolv.conf"} {
		add(path.Join("/etc", name), path.Join(pact.Etc, name), mode)
	}
	return mounts
}
