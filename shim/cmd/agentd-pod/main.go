// Command agentd-pod runs in the machine of a pod, as a command of its agent, and
// owns the containers there. The shim starts it; nobody does by hand.
package main

import (
	"fmt"
	"os"
	"runtime"

	"github.com/opencontainers/runc/libcontainer"
	_ "github.com/opencontainers/runc/libcontainer/nsenter" // Its C code enters the namespaces before Go starts.

	"github.com/agentd-go/agentd/shim/internal/guest"
	"github.com/agentd-go/agentd/shim/internal/pact"
)

// The library executes this program again, with this argument, as the first process
// of a container.
func init() {
	// The main thread stays in the machine's namespaces: what enters others does it
	// on a thread that ends there, and the main thread cannot end.
	runtime.LockOSThread()
	if len(os.Args) > 1 && os.Args[1] == "init" {
		libcontainer.Init()
	}
}

func main() {
	if len(os.Args) == 3 && os.Args[1] == pact.Hold {
		fmt.Fprintln(os.Stderr, "agentd-pod:", guest.HoldNamespaces(os.Args[2]))
		os.Exit(1)
	}
	if err := guest.Main(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "agentd-pod:", err)
		os.Exit(1)
	}
}
