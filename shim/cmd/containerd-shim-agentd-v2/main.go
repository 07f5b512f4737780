// Command containerd-shim-agentd-v2 runs the pods of containerd in microVMs, one for
// each. Containerd starts it; docs/CONTAINERD.md says how to set that up.
package main

import (
	"fmt"
	"os"

	"github.com/agentd-go/agentd/shim/internal/life"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "containerd-shim-agentd-v2:", err)
		os.Exit(1)
	}
}

func run() error {
	args, err := life.ParseArgs(os.Args[1:], os.Stderr)
	switch {
	case err != nil:
		return err
	case args.Version:
		return life.PrintVersion(os.Stdout)
	case args.Info:
		return life.Info(os.Stdout)
	}
	switch args.Action {
	case "start":
		return life.Start(args, os.Stdin, os.Stdout)
	case "delete":
		return life.Delete(args, os.Stdout)
	case "":
		return life.Serve(args)
	}
	return fmt.Errorf("command %q: want start or delete", args.Action)
}
