package life

import (
	"fmt"
	"io"

	"github.com/containerd/containerd/api/types"
	"google.golang.org/protobuf/proto"
)

// Name is the runtime's, as containerd's configuration has it.
const Name = "io.containerd.agentd.v2"

// Version is the shim's; the linker sets it.
var Version = "0.1.0"

// Info writes what the runtime is, for the flag -info.
func Info(out io.Writer) error {
	b, err := proto.Marshal(&types.RuntimeInfo{
		Name: Name, Version: &types.RuntimeVersion{Version: Version},
		Annotations: map[string]string{"io.agentd.machine": "one for each pod"},
	})
	if err != nil {
		return err
	}
	_, err = out.Write(b)
	return err
}

// PrintVersion writes it for people.
func PrintVersion(out io.Writer) error {
	_, err := fmt.Fprintf(out, "containerd-shim-agentd-v2:\n  Version: %s\n", Version)
	return err
}
