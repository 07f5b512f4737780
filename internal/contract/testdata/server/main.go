// Command server serves the connections of the contract, in a guest.
package main

import (
	"fmt"
	"os"

	"github.com/agentd-go/agentd/internal/contract"
)

func main() {
	if err := contract.Serve(func() { fmt.Println("ready") }); err != nil {
		fmt.Fprintln(os.Stderr, "server:", err)
		os.Exit(1)
	}
}
