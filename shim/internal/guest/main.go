package guest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"

	task "github.com/containerd/containerd/api/runtime/task/v2"
	"github.com/containerd/ttrpc"
	"github.com/opencontainers/runc/libcontainer/exeseal"
	"golang.org/x/sys/unix"

	"github.com/agentd-go/agentd/shim/internal/pact"
)

// Main is the program: it reads a [pact.Start], answers with a [pact.Ready] and
// serves until its input ends, which is the end of the shim.
func Main(in io.Reader, out io.Writer) error {
	if err := seal(); err != nil {
		return fmt.Errorf("seal the program: %w", err)
	}
	words := json.NewDecoder(in)
	var start pact.Start
	if err := words.Decode(&start); err != nil {
		return fmt.Errorf("read what to start: %w", err)
	}
	ready, err := serve(start)
	if err != nil {
		ready = pact.Ready{Error: err.Error()}
	}
	if answer := json.NewEncoder(out).Encode(ready); answer != nil {
		return answer
	}
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, in)
	return err
}

// seal executes this program again from a copy that nobody can write to. Containers
// execute it too (/proc/self/exe), and the library would make such a copy for each.
func seal() error {
	if exeseal.IsSelfExeCloned() {
		return nil
	}
	exe, err := exeseal.CloneSelfExe("/run")
	if err != nil {
		return err
	}
	return unix.Exec(fmt.Sprintf("/proc/self/fd/%d", exe.Fd()), os.Args, os.Environ())
}

// serve sets the pod up and opens its ports.
func serve(start pact.Start) (ready pact.Ready, err error) {
	if err := setUp(start); err != nil {
		return ready, err
	}
	s := newServer()
	if s.holder, err = startHolder(start.Held); err != nil {
		return ready, err
	}
	calls, err := ttrpc.NewServer()
	if err != nil {
		return ready, err
	}
	task.RegisterTTRPCTaskService(calls, s)
	calls.RegisterService(pact.Service, s.extra())
	control, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // Listening does not wait.
	if err != nil {
		return ready, err
	}
	streams, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // Listening does not wait.
	if err != nil {
		return ready, err
	}
	go func() { _ = calls.Serve(context.Background(), control) }() // Ends with the process.
	go s.acceptStreams(streams)
	return pact.Ready{Control: port(control), Streams: port(streams)}, nil
}

func port(l net.Listener) int {
	addr, _ := l.Addr().(*net.TCPAddr)
	return addr.Port
}
