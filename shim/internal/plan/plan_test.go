package plan

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
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
		{Destination: "/all", Type: "bind", Source: "/all", Options: []string{"rbind", "rro"}},
		{Destination: "/back", Type: "bind", Source: "/back", Options: []string{"rbind", "ro", "rw"}},
	}
	r := make1(t, s, "b", "a")
	want := []Bind{
		{Source: "/var/lib/hosts", Name: "0", ReadOnly: true, Recursive: true},
		{Source: "/srv", Name: "1", ReadOnly: true},
		{Source: "/all", Name: "2", ReadOnly: true, Recursive: true, AllReadOnly: true},
		{Source: "/back", Name: "3", Recursive: true},
	}
	if !slices.Equal(r.Binds, want) {
		t.Errorf("binds %+v, want %+v", r.Binds, want)
	}
	m := r.Spec.Mounts
	if m[0].Source != "proc" || m[1].Source != "/run/agentd-volumes/3/0" || m[2].Source != pact.Shm || m[3].Source != "/run/agentd-volumes/3/1" {
		t.Errorf("mounts %+v", m)
	}
	if slices.Contains(m[1].Options, "ro") || !slices.Contains(m[4].Options, "rro") || !slices.Contains(m[3].Options, "ro") {
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
		{"a zero byte in a mount", func(s *specs.Spec) {
			s.Mounts = []specs.Mount{{Type: "bind", Source: "/x\x00/y", Destination: "/x"}}
		}, "mounts"},
		{"a zero byte in an option", func(s *specs.Spec) {
			s.Mounts = []specs.Mount{{Type: "tmpfs", Destination: "/x", Options: []string{"size=1\x00"}}}
		}, "mounts"},
		{"relative destination of a tmpfs", func(s *specs.Spec) { s.Mounts = []specs.Mount{{Type: "tmpfs", Destination: "../x"}} }, "mounts.destination"},
		{"hostname of two words", func(s *specs.Spec) { s.Hostname = "a b" }, "hostname"},
		{"hostname with a zero byte", func(s *specs.Spec) { s.Hostname = "a\x00b" }, "hostname"},
		{"long hostname", func(s *specs.Spec) { s.Hostname = strings.Repeat("a", 65) }, "hostname"},
		{"relative directory", func(s *specs.Spec) { s.Process.Cwd = "../x" }, "process.cwd"},
		{"a zero byte in the environment", func(s *specs.Spec) { s.Process.Env = []string{"A=\x00"} }, "process.args and process.env"},
		{"no root's path", func(s *specs.Spec) { s.Root.Path = "" }, "root.path"},
		{"device with a path that climbs", func(s *specs.Spec) { s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/../x", Type: "c"}} }, "linux.devices.path"},
		{"device of no type", func(s *specs.Spec) { s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/x", Type: "x"}} }, "linux.devices.type"},
		{"device with a negative number", func(s *specs.Spec) {
			s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/x", Type: "b", Major: -1}}
		}, "linux.devices.major and minor"},
		{"relative hook", func(s *specs.Spec) { s.Hooks = &specs.Hooks{Poststop: []specs.Hook{{Path: "sh"}}} }, "hooks.poststop.path"},
		{"hook without time", func(s *specs.Spec) {
			s.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{{Path: "/h", Timeout: new(int)}}}
		}, "hooks.createRuntime.timeout"},
		{"sysctl that climbs", func(s *specs.Spec) { s.Linux.Sysctl = map[string]string{"net/../kernel.x": "1"} }, "linux.sysctl"},
		{"sysctl without a part", func(s *specs.Spec) { s.Linux.Sysctl = map[string]string{"kernel": "1"} }, "linux.sysctl"},
		{"hook inside", func(s *specs.Spec) { s.Hooks = &specs.Hooks{CreateContainer: []specs.Hook{{Path: "/h"}}} }, "hooks.createContainer"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := spec()
			c.change(s)
			_, err := Container(Request{Spec: s, ID: "b", Pod: "a", Number: 1})
			if strings.ContainsRune(fmt.Sprint(err), 0) {
				t.Errorf("the error holds what it refuses as it is: %q", err)
			}
			refused, ok := errors.AsType[*RefusedError](err)
			if !ok || refused.Field != c.field {
				t.Errorf("got %v, want a refusal of %s", err, c.field)
			}
		})
	}
}

// An id is a word: it is the name of a cgroup in the guest.
func TestRefusedNames(t *testing.T) {
	for _, id := range []string{"", "..", "../x", "a/b", "-a", "a b", "a\n", "container:a", strings.Repeat("a", 129)} {
		for _, r := range []Request{{ID: id, Pod: "a"}, {ID: "a", Pod: id}} {
			r.Spec = spec()
			_, err := Container(r)
			if refused, ok := errors.AsType[*RefusedError](err); !ok || refused.Field != "id" || !strings.Contains(err.Error(), strconv.Quote(id)) {
				t.Errorf("%q: %v", id, err)
			}
		}
	}
}
