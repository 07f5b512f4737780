package agent_test

import (
	"os"
	"testing"
	"time"

	"github.com/agentd-go/agentd/internal/nstest"
	"github.com/agentd-go/agentd/wire"
)

// A process that keeps the output of its command open does not keep the end from
// being reported, and does not die of it either.
func TestLeftOutput(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		h := newHost(t, config{})
		for _, tt := range []struct {
			name, script, stdout string
			atLeast, atMost      time.Duration
			alive                bool
		}{
			{
				name: "silent", script: "mkfifo /tmp/p; (read x </tmp/p; echo late; echo alive >/tmp/alive) & echo early", stdout: "early\n",
				atLeast: 5 * time.Second, atMost: patience, alive: true,
			},
			// Were its end not enough, it would take 5 s more.
			{name: "speaks in time", script: "(sleep 2; echo late) & echo early", stdout: "early\nlate\n", atLeast: 2 * time.Second, atMost: 7 * time.Second},
		} {
			t.Run(tt.name, func(t *testing.T) {
				h.t = t
				start := time.Now()
				r := h.run(&wire.ExecRequest{Cmd: "sh", Args: []string{"-c", tt.script}})
				took := time.Since(start)
				if string(r.stdout) != tt.stdout || r.code != 0 || took < tt.atLeast || took > tt.atMost {
					t.Errorf("got %q, code %d after %v; want %q between %v and %v", r.stdout, r.code, took, tt.stdout, tt.atLeast, tt.atMost)
				}
				if !tt.alive {
					return
				}
				if err := os.WriteFile("/tmp/p", []byte("go on\n"), 0); err != nil {
					t.Fatal(err)
				}
				eventually(t, "who was left behind goes on", func() bool {
					b, err := os.ReadFile("/tmp/alive")
					return err == nil && string(b) == "alive\n"
				})
			})
		}
	})
}
