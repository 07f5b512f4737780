package plan

import (
	"errors"
	"slices"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/agentd-go/agentd/shim/internal/pact"
)

func spec() *specs.Spec {
	return &specs.Spec{
		Root:    &specs.Root{Path: "rootfs", Readonly: true},
		Process: &specs.Process{Args: []string{"true"}, Cwd: "/", ApparmorProfile: "cri-containerd.apparmor.d", SelinuxLabel: "x"},
		Linux: &specs.Linux{
			CgroupsPath: "/kubepods/a",
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.PIDNamespace},
				{Type: specs.IPCNamespace, Path: "/proc/7/ns/ipc"},
				{Type: specs.UTSNamespace},
				{Type: specs.MountNamespace},
				{Type: specs.NetworkNamespace, Path: "/run/netns/a"},
			},
			Resources: &specs.LinuxResources{CPU: &specs.LinuxCPU{Cpus: "0-7", Mems: "0"}, HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "2MB"}}},
		},
	}
}

func make1(t *testing.T, s *specs.Spec, id, pod string) Result {
	t.Helper()
	r, err := Container(Request{Spec: s, ID: id, Pod: pod, Number: 3})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// What belongs to this host is not told to the guest, and the caller's specification
// stays as it is.
func TestHostsThingsStay(t *testing.T) {
	s := spec()
	r := make1(t, s, "b", "a")
	l := r.Spec.Linux
	if r.Spec.Root.Path != "/containers/3/rootfs" || !r.Spec.Root.Readonly || l.CgroupsPath != "/pod/b" {
		t.Errorf("root %+v, cgroup %s", r.Spec.Root, l.CgroupsPath)
	}
	if l.Resources.CPU.Cpus != "" || l.Resources.HugepageLimits != nil || r.Spec.Process.ApparmorProfile != "" || r.Spec.Process.SelinuxLabel != "" {
		t.Errorf("left over: %+v %+v", l.Resources.CPU, r.Spec.Process)
	}
	if s.Root.Path != "rootfs" || s.Linux.Resources.CPU.Cpus != "0-7" || s.Process.SelinuxLabel != "x" || s.Linux.Namespaces[4].Path != "/run/netns/a" {
		t.Errorf("the caller's specification was changed: %+v", s)
	}
}

func TestNamespaces(t *testing.T) {
	want := map[string]map[specs.LinuxNamespaceType]string{
		"b": {specs.PIDNamespace: "", specs.IPCNamespace: pact.OfContainer + "a", specs.NetworkNamespace: pact.Net},
		"a": {specs.PIDNamespace: "", specs.IPCNamespace: "", specs.NetworkNamespace: pact.Net}, // The first joins nobody.
	}
	for id, paths := range want {
		for _, ns := range make1(t, spec(), id, "a").Spec.Linux.Namespaces {
			if p, ok := paths[ns.Type]; ok && p != ns.Path {
				t.Errorf("%s: namespace %s has the path %q, want %q", id, ns.Type, ns.Path, p)
			}
		}
	}
}

func TestMounts(t *testing.T) {
	s := spec()
	s.Mounts = []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc"},
		{Destination: "/etc/hosts", Type: "bind", Source: "/var/lib/hosts", Options: []string{"rbind", "ro"}},
		{Destination: "/dev/shm", Type: "bind", Source: "/run/x/shm", Options: []string{"rbind"}},
		{Destination: "/data", Type: "none", Source: "/srv", Options: []string{"bind", "ro"}},
	}
	r := make1(t, s, "b", "a")
	want := []Bind{{"/var/lib/hosts", "0", true, true}, {"/srv", "1", true, false}}
	if !slices.Equal(r.Binds, want) {
		t.Errorf("binds %+v, want %+v", r.Binds, want)
	}
	m := r.Spec.Mounts
	if m[0].Source != "proc" || m[1].Source != "/run/agentd-volumes/3/0" || m[2].Source != pact.Shm || m[3].Source != "/run/agentd-volumes/3/1" {
		t.Errorf("mounts %+v", m)
	}
	if slices.Contains(m[1].Options, "ro") || !slices.Contains(m[3].Options, "ro") {
		t.Errorf("options %v and %v", m[1].Options, m[3].Options)
	}
}

func TestRefused(t *testing.T) {
	drop := func(t specs.LinuxNamespaceType) func(*specs.Spec) {
		return func(s *specs.Spec) {
			s.Linux.Namespaces = slices.DeleteFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == t })
		}
	}
	for _, c := range []struct {
		name   string
		change func(*specs.Spec)
		field  string
	}{
		{"host network", drop(specs.NetworkNamespace), "linux.namespaces"},
		{"host pid", drop(specs.PIDNamespace), "linux.namespaces"},
		{"host ipc", drop(specs.IPCNamespace), "linux.namespaces"},
		{"user namespace", func(s *specs.Spec) { s.Linux.UIDMappings = []specs.LinuxIDMapping{{Size: 1}} }, "linux.namespaces"},
		{"no process", func(s *specs.Spec) { s.Process = nil }, "process"},
		{"no arguments", func(s *specs.Spec) { s.Process.Args = nil }, "process.args"},
		{"no root", func(s *specs.Spec) { s.Root = nil }, "root"},
		{"no linux", func(s *specs.Spec) { s.Linux = nil }, "linux"},
		{"relative source", func(s *specs.Spec) { s.Mounts = []specs.Mount{{Type: "bind", Source: "../x", Destination: "/x"}} }, "mounts.source"},
		{"relative destination", func(s *specs.Spec) { s.Mounts = []specs.Mount{{Type: "bind", Source: "/x", Destination: "x"}} }, "mounts.destination"},
		{"hook inside", func(s *specs.Spec) { s.Hooks = &specs.Hooks{CreateContainer: []specs.Hook{{Path: "/h"}}} }, "hooks.createContainer"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := spec()
			c.change(s)
			_, err := Container(Request{Spec: s, ID: "b", Pod: "a", Number: 1})
			refused, ok := errors.AsType[*RefusedError](err)
			if !ok || refused.Field != c.field {
				t.Errorf("got %v, want a refusal of %s", err, c.field)
			}
		})
	}
}
