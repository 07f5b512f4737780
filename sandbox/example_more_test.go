package sandbox_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"

	"github.com/agentd-go/agentd/sandbox"
)

// An HTTP server in a machine without a network card, and a client here: the agent
// makes the connections.
func ExampleMachine_Client() {
	ctx := context.Background()
	m, err := sandbox.Start(ctx, sandbox.Config{Mounts: []sandbox.Mount{{Source: "site", Target: "/srv", ReadOnly: true}}})
	if err != nil {
		log.Print(err)
		return
	}
	defer func() { _ = m.Close() }()
	server := m.Client().CommandContext(ctx, "httpd", "-f", "-p", "127.0.0.1:80", "-h", "/srv")
	if err := server.Start(); err != nil {
		log.Print(err)
		return
	}
	web := http.Client{Transport: &http.Transport{DialContext: m.Client().DialContext}}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1/index.html", nil)
	if err != nil {
		log.Print(err)
		return
	}
	answer, err := web.Do(r)
	if err != nil {
		log.Print(err)
		return
	}
	defer func() { _ = answer.Body.Close() }()
	_, _ = io.Copy(os.Stdout, answer.Body)
}

// A hundred machines, one after another: each is new, and nothing of it is left.
func ExampleStart_many() {
	ctx := context.Background()
	for n := range 100 {
		m, err := sandbox.Start(ctx, sandbox.Config{Hostname: fmt.Sprint("job-", n), MemoryMiB: 256})
		if err != nil {
			log.Print(err)
			return
		}
		out, err := m.Client().Command("hostname").Output()
		if end := m.Close(); err != nil || end != nil {
			log.Print(err, end)
			return
		}
		fmt.Printf("%s", out)
	}
}

// A directory of the host that a machine tests, without being able to change it.
func ExampleConfig() {
	m, err := sandbox.Start(context.Background(), sandbox.Config{
		Image:   "golang:1.26",
		Mounts:  []sandbox.Mount{{Source: ".", Target: "/src", ReadOnly: true}},
		Tmpfs:   []sandbox.Tmpfs{{Target: "/tmp"}},
		Network: true, // For modules that are not here.
		CPUs:    2, MemoryMiB: 2048,
	})
	if err != nil {
		log.Print(err)
		return
	}
	defer func() { _ = m.Close() }()
	cmd := m.Client().Command("go", "test", "./...")
	cmd.Dir = "/src"
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		log.Print(err)
	}
}
