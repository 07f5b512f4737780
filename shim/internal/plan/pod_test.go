package plan

import (
	"slices"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/agentd-go/agentd/shim/internal/pact"
)

// A container of a pod that the shim makes has the pod's namespaces, memory and files;
// what it brings along itself stays, but for a /dev/shm of its own.
func TestHeldPod(t *testing.T) {
	s := spec()
	s.Mounts = []specs.Mount{
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm"},
		{Destination: "/etc/hosts", Type: "bind", Source: "/var/lib/kubelet/hosts", Options: []string{"rbind", "rw"}},
	}
	s.Root.Readonly = true
	r, err := Container(Request{Spec: s, ID: "b", Pod: "b", Number: 3, Held: true})
	if err != nil {
		t.Fatal(err)
	}
	for kind, want := range map[specs.LinuxNamespaceType]string{
		specs.PIDNamespace: "", specs.IPCNamespace: pact.OfPod, specs.NetworkNamespace: pact.Net,
	} {
		i := slices.IndexFunc(r.Spec.Linux.Namespaces, func(ns specs.LinuxNamespace) bool { return ns.Type == kind })
		if got := r.Spec.Linux.Namespaces[i].Path; got != want {
			t.Errorf("namespace %s: %q, want %q", kind, got, want)
		}
	}
	sources := map[string]string{}
	for _, m := range r.Spec.Mounts {
		sources[m.Destination] = m.Source
		if m.Source == pact.Etc+"/hostname" && !slices.Contains(m.Options, "ro") {
			t.Errorf("%s is not read-only, and the root is", m.Destination)
		}
	}
	for destination, want := range map[string]string{
		"/dev/shm": pact.Shm, "/etc/hosts": "/run/agentd-volumes/3/0", "/etc/hostname": pact.Etc + "/hostname", "/etc/resolv.conf": pact.Etc + "/resolv.conf",
	} {
		if sources[destination] != want {
			t.Errorf("%s from %q, want %q", destination, sources[destination], want)
		}
	}
	if len(s.Mounts) != 2 {
		t.Errorf("the caller's specification was changed: %+v", s.Mounts)
	}
}
