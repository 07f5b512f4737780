package life

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/containerd/containerd/api/types"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/runtime-spec/specs-go/features"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// Name is the runtime's, as containerd's configuration has it.
const Name = "io.containerd.agentd.v2"

// Version is the shim's; the linker sets it.
var Version = "0.1.0"

// featuresType is containerd's name of the specification's features, which are JSON
// (github.com/containerd/containerd/v2/core/runtime/typeurl.go).
const featuresType = "types.containerd.io/opencontainers/runtime-spec/1/features/Features"

// Info writes what the runtime is, for the flag -info.
func Info(out io.Writer) error {
	offered, err := json.Marshal(offers())
	if err != nil {
		return err
	}
	b, err := proto.Marshal(&types.RuntimeInfo{
		Name: Name, Version: &types.RuntimeVersion{Version: Version},
		Features:    &anypb.Any{TypeUrl: featuresType, Value: offered},
		Annotations: map[string]string{"io.agentd.machine": "one for each pod"},
	})
	if err != nil {
		return err
	}
	_, err = out.Write(b)
	return err
}

// mountOptions are those of binds and of the guest's own file systems. Containerd 2.0 and
// later offers recursive read-only mounts to Kubernetes because "rro" is here.
var mountOptions = []string{
	"async", "atime", "bind", "defaults", "dev", "diratime", "dirsync", "exec", "iversion", "lazytime", "mand", "noatime", "nodev", "nodiratime",
	"noexec", "noiversion", "nolazytime", "nomand", "norelatime", "nostrictatime", "nosuid", "nosymfollow", "private", "ratime", "rbind", "rdev",
	"relatime", "remount", "rexec", "rnoatime", "rnodev", "rnoexec", "rnosuid", "ro", "rprivate", "rro", "rrw", "rslave", "rsuid", "rw", "slave",
	"strictatime", "suid", "symfollow", "sync", "tmpcopyup",
}

// offers is the part of the runtime specification that a container in a machine has.
func offers() features.Features {
	yes, no := true, false
	return features.Features{
		OCIVersionMin: "1.0.0", OCIVersionMax: specs.Version,
		Hooks:        []string{"prestart", "createRuntime", "startContainer", "poststart", "poststop"},
		MountOptions: mountOptions,
		Linux: &features.Linux{
			Namespaces: []string{"cgroup", "ipc", "mount", "network", "pid", "uts"},
			Cgroup:     &features.Cgroup{V1: &no, V2: &yes, Systemd: &no, SystemdUser: &no, Rdma: &no},
			Seccomp:    &features.Seccomp{Enabled: &yes},
			Apparmor:   &features.Apparmor{Enabled: &no},
			Selinux:    &features.Selinux{Enabled: &no},
		},
	}
}

// PrintVersion writes it for people.
func PrintVersion(out io.Writer) error {
	_, err := fmt.Fprintf(out, "containerd-shim-agentd-v2:\n  Version: %s\n", Version)
	return err
}
