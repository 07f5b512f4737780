package sandbox_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"strings"
	"time"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/sandbox"
)

// A machine for one command.
func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	m, err := sandbox.Start(ctx, sandbox.Config{Hostname: "example"})
	if err != nil {
		log.Print(err)
		return
	}
	defer func() {
		if err := m.Close(); err != nil {
			log.Print(err)
		}
	}()
	out, err := m.Client().CommandContext(ctx, "uname", "-n").Output()
	if err != nil {
		log.Print(err)
		return
	}
	fmt.Printf("%s", out)
	// Output: example
}

// A command with input, and its status. With a Root or an Image the machine has
// more than the small root's programs.
func ExampleStart() {
	m, err := sandbox.Start(context.Background(), sandbox.Config{
		CPUs:      2,
		MemoryMiB: 1024,
		Env:       []string{"CI=true"},
	})
	if err != nil {
		log.Print(err)
		return
	}
	defer func() { _ = m.Close() }()
	cmd := m.Client().Command("sh", "-e")
	cmd.Dir = "/tmp"
	cmd.Stdin = strings.NewReader("echo building, CI=$CI\npwd\nfalse\necho not reached\n")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	err = cmd.Run()
	if exit, ok := errors.AsType[*client.ExitError](err); ok {
		fmt.Println("status", exit.ExitCode())
	} else if err != nil {
		log.Print(err)
	}
	// Output:
	// building, CI=true
	// /tmp
	// status 1
}
