package sandbox_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"strings"
	"time"

	"github.com/agentd-go/agentd/sandbox"
)

// A machine for one command.
func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
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
}

// A directory of the host as the root, and a command with input.
func ExampleStart() {
	m, err := sandbox.Start(context.Background(), sandbox.Config{
		Root:      "/srv/roots/build",
		CPUs:      2,
		MemoryMiB: 2048,
		Env:       []string{"CI=true"},
	})
	if err != nil {
		log.Print(err)
		return
	}
	defer func() { _ = m.Close() }()
	cmd := m.Client().Command("sh", "-e")
	cmd.Dir = "/work"
	cmd.Stdin = strings.NewReader("./configure\nmake test\n")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		log.Print(err)
	}
}
