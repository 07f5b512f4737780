package sandbox_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"path/filepath"

	"github.com/agentd-go/agentd/sandbox"
)

// An HTTP server in a machine without a network card, and a client here: the agent
// makes the connections.
func ExampleMachine_Client() {
	ctx := context.Background()
	m, err := sandbox.Start(ctx, sandbox.Config{Mounts: []sandbox.Mount{{Source: site, Target: "/srv", ReadOnly: true}}})
	if err != nil {
		log.Print(err)
		return
	}
	defer func() { _ = m.Close() }()
	// Without -f httpd leaves a server behind, which listens already.
	if err := m.Client().CommandContext(ctx, "httpd", "-p", "127.0.0.1:80", "-h", "/srv").Run(); err != nil {
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
	// Output: a page
}

// Machines one after another: each is new, and nothing of it is left.
func ExampleStart_many() {
	ctx := context.Background()
	for n := range machinesInARow {
		m, err := sandbox.Start(ctx, sandbox.Config{Hostname: fmt.Sprint("job-", n), MemoryMiB: 256})
		if err != nil {
			log.Print(err)
			return
		}
		out, err := m.Client().Command("sh", "-c", "ls /mine 2>/dev/null; >/mine; hostname").Output()
		if end := m.Close(); err != nil || end != nil {
			log.Print(err, end)
			return
		}
		if n < 3 {
			fmt.Printf("%s", out)
		}
	}
	// Output:
	// job-0
	// job-1
	// job-2
}

// A directory of the host that a machine tests, without being able to change it.
func ExampleConfig() {
	m, err := sandbox.Start(context.Background(), sandbox.Config{
		Mounts:     []sandbox.Mount{{Source: site, Target: "/src", ReadOnly: true}},
		Tmpfs:      []sandbox.Tmpfs{{Target: "/tmp"}},
		Restricted: true,
	})
	if err != nil {
		log.Print(err)
		return
	}
	defer func() { _ = m.Close() }()
	cmd := m.Client().Command("sh", "./check.sh")
	cmd.Dir = "/src"
	cmd.Stdout = os.Stdout
	if err := cmd.Run(); err != nil {
		log.Print(err)
	}
	// Output:
	// 1 page
	// cannot change it
}

// Of the examples: a site with a test of it, and how many machines are many: a
// hundred with AGENTD_LONG=1.
var (
	site           string
	machinesInARow = 3
)

// prepareExamples makes what they need, in a directory that the caller removes.
func prepareExamples() (dir string, err error) {
	if os.Getenv("AGENTD_LONG") == "1" {
		machinesInARow = 100
	}
	if site, err = os.MkdirTemp("", "site-"); err != nil {
		return "", err
	}
	for name, text := range map[string]string{
		"index.html": "a page\n",
		"check.sh":   "echo $(ls *.html | wc -l) page\n{ >/src/new; } 2>/dev/null || echo cannot change it\n",
	} {
		if err := os.WriteFile(filepath.Join(site, name), []byte(text), 0o600); err != nil {
			return site, err
		}
	}
	return site, nil
}

// A server that needs a machine for each request, and does not wait for its start.
func ExamplePool() {
	ctx := context.Background()
	p, err := sandbox.NewPool(sandbox.PoolConfig{
		Machine: sandbox.Config{MemoryMiB: 256},
		Spares:  1,
		Log:     func(err error) { log.Print(err) },
	})
	if err != nil {
		log.Print(err)
		return
	}
	defer func() { _ = p.Close() }()
	m, err := p.Get(ctx)
	if err != nil {
		log.Print(err)
		return
	}
	defer func() { _ = m.Close() }()
	out, err := m.Client().CommandContext(ctx, "echo", "at once").Output()
	fmt.Print(string(out), err)
	// Output:
	// at once
	// <nil>
}
