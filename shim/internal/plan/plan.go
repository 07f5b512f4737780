// Package plan turns the OCI specification of a container, which was written for
// this host, into one for the pod's machine, and says what the host has to mount for
// that. It touches nothing.
//
// What belongs to the host's kernel is taken out: cpu and memory nodes, device
// numbers of the host, labels of its security modules, its cgroup. What names a file
// of the host becomes a bind into the shared directory. What cannot be had in a
// machine is refused by name: see [Container].
package plan

import (
	"fmt"
	"path"
	"slices"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/agentd-go/agentd/shim/internal/pact"
)

// A Bind is one file or directory of the host that the guest shall see, at the
// directory of volumes of its container.
type Bind struct {
	Source    string
	Name      string // Below the container's directory of volumes.
	ReadOnly  bool
	Recursive bool
	// AllReadOnly extends ReadOnly to what is mounted below Source.
	AllReadOnly bool
}

// A Request is what is planned.
type Request struct {
	Spec *specs.Spec
	ID   string
	// Pod is the id of the pod's first container; ID for that one.
	Pod string
	// Held says that the pod holds its namespaces and files itself: no container is its
	// first.
	Held bool
	// Number is the container's in its pod: its directories bear it.
	Number int
}

// A Result is the plan.
type Result struct {
	Spec  *specs.Spec // For the guest. It shares what is equal with the Request's.
	Binds []Bind
}

// A RefusedError names a part of the specification that is not offered.
type RefusedError struct {
	Field  string // As in config.json.
	Value  string
	Reason string
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("config.json: %s %q: %s", e.Field, e.Value, e.Reason)
}

// Dir is the container's directory in the guest.
func Dir(number int) string { return path.Join(pact.Containers, strconv.Itoa(number)) }

// Container plans one container. The error is a [*RefusedError] or names the field
// that is wrong.
func Container(r Request) (Result, error) {
	if err := check(r.Spec); err != nil {
		return Result{}, err
	}
	if err := checkForm(r); err != nil {
		return Result{}, err
	}
	spec := *r.Spec
	spec.Root = &specs.Root{Path: path.Join(Dir(r.Number), "rootfs"), Readonly: r.Spec.Root.Readonly}
	linux := *r.Spec.Linux
	spec.Linux = &linux
	process := *r.Spec.Process
	spec.Process = &process
	process.ApparmorProfile, process.SelinuxLabel = "", ""
	linux.MountLabel = ""
	linux.CgroupsPath = path.Join(pact.Cgroup, r.ID)
	linux.Resources = resources(linux.Resources)
	linux.IntelRdt = nil
	linux.Namespaces = namespaces(linux.Namespaces, r)
	var err error
	if spec.Hooks, err = hooks(r.Spec.Hooks); err != nil {
		return Result{}, err
	}
	result := Result{Spec: &spec}
	result.Binds, spec.Mounts = mounts(r)
	if r.Held {
		spec.Mounts = podMounts(spec.Mounts, r.Spec.Root.Readonly)
	}
	return result, nil
}

func check(s *specs.Spec) error {
	switch {
	case s.Linux == nil:
		return &RefusedError{"linux", "", "it is missing, and only Linux containers run here"}
	case s.Process == nil:
		return &RefusedError{"process", "", "it is missing"}
	case len(s.Process.Args) == 0:
		return &RefusedError{"process.args", "", "want at least one"}
	case s.Root == nil:
		return &RefusedError{"root", "", "it is missing"}
	case len(s.Linux.UIDMappings)+len(s.Linux.GIDMappings) > 0 || has(s, specs.UserNamespace):
		return &RefusedError{"linux.namespaces", "user", "user namespaces are not offered: the machine stands in their place"}
	}
	for _, want := range []struct {
		ns   specs.LinuxNamespaceType
		name string
	}{{specs.NetworkNamespace, "network"}, {specs.PIDNamespace, "pid"}, {specs.IPCNamespace, "ipc"}} {
		if !has(s, want.ns) {
			return &RefusedError{"linux.namespaces", want.name, "it is missing, which asks for the host's; a machine has its own"}
		}
	}
	return nil
}

func has(s *specs.Spec, t specs.LinuxNamespaceType) bool {
	return slices.ContainsFunc(s.Linux.Namespaces, func(ns specs.LinuxNamespace) bool { return ns.Type == t })
}

// namespaces keeps a container's own. A path on the host means the pod's: its
// network, or a namespace of its first container.
func namespaces(all []specs.LinuxNamespace, r Request) (kept []specs.LinuxNamespace) {
	for _, ns := range all {
		switch {
		case ns.Type == specs.TimeNamespace:
			continue // The clocks of the machine are its own.
		case ns.Type == specs.NetworkNamespace:
			ns.Path = pact.Net
		case ns.Path == "":
		case r.Held:
			ns.Path = pact.OfPod
		case r.ID == r.Pod:
			ns.Path = ""
		default:
			ns.Path = pact.OfContainer + r.Pod
		}
		kept = append(kept, ns)
	}
	return kept
}

// resources keeps the limits that mean the same in the guest.
func resources(r *specs.LinuxResources) *specs.LinuxResources {
	if r == nil {
		return nil
	}
	kept := *r
	if r.CPU != nil {
		cpu := *r.CPU
		cpu.Cpus, cpu.Mems = "", ""                        // The host's numbers.
		cpu.RealtimePeriod, cpu.RealtimeRuntime = nil, nil // Cgroup 1 only.
		kept.CPU = &cpu
	}
	if r.Memory != nil {
		memory := *r.Memory
		memory.Swappiness, memory.DisableOOMKiller = nil, nil // Cgroup 1 only.
		memory.Kernel, memory.KernelTCP = nil, nil            //nolint:staticcheck // Deprecated, and taken out.
		if memory.Swap != nil && memory.Limit == nil {
			memory.Swap = nil
		}
		kept.Memory = &memory
	}
	kept.BlockIO, kept.Network, kept.Rdma = nil, nil, nil
	kept.HugepageLimits = nil
	return &kept
}

// hooks keeps those that run inside; the shim runs those of the host.
func hooks(h *specs.Hooks) (*specs.Hooks, error) {
	if h == nil {
		return nil, nil
	}
	if len(h.CreateContainer) > 0 {
		return nil, &RefusedError{"hooks.createContainer", h.CreateContainer[0].Path, "a program of the host cannot run in the namespaces of a container in a machine"}
	}
	if len(h.StartContainer) == 0 {
		return nil, nil
	}
	return &specs.Hooks{StartContainer: h.StartContainer}, nil
}

// mounts replaces the host's files by their places in the guest.
func mounts(r Request) (binds []Bind, kept []specs.Mount) {
	for _, m := range r.Spec.Mounts {
		if !isBind(m) {
			kept = append(kept, m)
			continue
		}
		if m.Destination == "/dev/shm" && path.Base(m.Source) == "shm" {
			m.Source = pact.Shm
			kept = append(kept, m)
			continue
		}
		b := Bind{
			Source: m.Source, Name: strconv.Itoa(len(binds)),
			ReadOnly:    isReadOnly(m.Options),
			Recursive:   !slices.Contains(m.Options, "bind"),
			AllReadOnly: slices.Contains(m.Options, "rro"),
		}
		if b.ReadOnly && b.Recursive && !b.AllReadOnly {
			// The host refuses the writes. In the guest what is mounted below is no mount of
			// its own, and would become read-only too.
			m.Options = slices.DeleteFunc(slices.Clone(m.Options), func(o string) bool { return o == "ro" })
		}
		binds = append(binds, b)
		m.Source = path.Join(pact.Volumes, strconv.Itoa(r.Number), b.Name)
		kept = append(kept, m)
	}
	return binds, kept
}

// isReadOnly takes the last of the options that speak of it, and "rro" for one that none
// of them takes back (mount_setattr(2) comes after mount(2)).
func isReadOnly(options []string) (read bool) {
	for _, o := range options {
		switch o {
		case "ro":
			read = true
		case "rw":
			read = false
		}
	}
	return read || slices.Contains(options, "rro")
}

func isBind(m specs.Mount) bool {
	return m.Type == "bind" || slices.Contains(m.Options, "bind") || slices.Contains(m.Options, "rbind")
}
