//go:build linux

package client_test

import (
	"context"
	"log"
	"os"
	"testing"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/internal/vmtest"
	"github.com/agentd-go/agentd/sandbox"
)

// machine is what the examples speak to.
var machine = vmtest.Shared{Config: sandbox.Config{Hostname: "example"}}

func TestMain(m *testing.M) { os.Exit(machine.Main(m)) }

// socket is the machine's.
func socket() string {
	path, err := machine.Socket()
	if err != nil {
		log.Fatal(err)
	}
	return path
}

// dialMachine connects to the machine, as ExampleDial shows.
func dialMachine() *client.Client {
	c, err := client.Connect(context.Background(), socket())
	if err != nil {
		log.Fatal(err)
	}
	return c
}
