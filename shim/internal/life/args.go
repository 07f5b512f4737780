package life

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"

	bootapi "github.com/containerd/containerd/api/runtime/bootstrap/v1"
	"google.golang.org/protobuf/proto"
)

// maxParams bounds what start reads from its input.
const maxParams = 8 << 20

// Args are the words of a call, as containerd has them.
type Args struct {
	Namespace, ID, Address, Bundle string
	TTRPC                          string // Containerd's socket for events.
	Debug, Version, Info           bool
	Action                         string // "start", "delete", or "" for the shim itself.
	Dir                            string // Of the pod, for the shim itself.
}

// ParseArgs reads the words of a call. Flags that containerd gives and that mean
// nothing here are taken and dropped.
func ParseArgs(words []string, complaints io.Writer) (Args, error) {
	a := Args{TTRPC: os.Getenv("TTRPC_ADDRESS")}
	f := flag.NewFlagSet("containerd-shim-agentd-v2", flag.ContinueOnError)
	f.SetOutput(complaints)
	f.StringVar(&a.Namespace, "namespace", "", "containerd's namespace of the container")
	f.StringVar(&a.ID, "id", "", "id of the container")
	f.StringVar(&a.Address, "address", "", "containerd's socket")
	f.StringVar(&a.Bundle, "bundle", "", "directory of the container's bundle")
	f.StringVar(&a.Dir, "dir", "", "directory of the pod; for the shim itself")
	f.BoolVar(&a.Debug, "debug", false, "log more")
	f.BoolVar(&a.Version, "v", false, "print the version")
	f.BoolVar(&a.Info, "info", false, "print what the runtime is, as protobuf")
	for _, unused := range []string{"publish-binary", "socket", "debug-socket"} {
		f.String(unused, "", "not used")
	}
	if err := f.Parse(words); err != nil {
		return a, err
	}
	a.Action = f.Arg(0)
	return a, nil
}

// names are what containerd allows as an id or namespace, and no path.
var names = regexp.MustCompile(`^[A-Za-z0-9]+([._-][A-Za-z0-9]+)*$`)

const maxName = 128

func (a Args) check() error {
	if err := checkName("-namespace", a.Namespace); err != nil {
		return err
	}
	return checkName("-id", a.ID)
}

func checkName(field, value string) error {
	if len(value) > maxName || !names.MatchString(value) {
		return fmt.Errorf("%s %q: want letters and digits, with single '.', '_' and '-' between them, %d at most", field, value, maxName)
	}
	return nil
}

// A way is how containerd wants the answer to start: since 2.3 it sends parameters
// and takes a result, both protobuf; since 1.7 it also takes JSON; before, the
// address alone.
type way int

const (
	byAddress way = iota
	byJSON
	byMessage
)

// readParams takes the parameters of containerd 2.3 or later from the input, in place
// of the flags. What older ones write there, the runtime's options, is no such
// message: it does not name the container.
func (a *Args) readParams(in io.Reader) (way, error) {
	b, err := io.ReadAll(io.LimitReader(in, maxParams+1))
	if err != nil {
		return byAddress, fmt.Errorf("read the parameters: %w", err)
	}
	if len(b) > maxParams {
		return byAddress, errors.New("the parameters: more than 8 MiB")
	}
	var p bootapi.BootstrapParams
	if len(b) > 0 && proto.Unmarshal(b, &p) == nil && p.InstanceID != "" && (a.ID == "" || p.InstanceID == a.ID) {
		a.ID, a.Namespace = p.InstanceID, p.Namespace
		if p.ContainerdTtrpcAddress != "" {
			a.TTRPC = p.ContainerdTtrpcAddress
		}
		if p.ContainerdGrpcAddress != "" {
			a.Address = p.ContainerdGrpcAddress
		}
		return byMessage, nil
	}
	if n, err := strconv.Atoi(os.Getenv("MAX_SHIM_VERSION")); err == nil && n >= taskVersion {
		return byJSON, nil
	}
	return byAddress, nil
}
