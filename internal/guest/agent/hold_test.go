package agent_test

import (
	"bytes"
	"os"
	"testing"

	"github.com/agentd-go/agentd/internal/nstest"
	"github.com/agentd-go/agentd/wire"
)

// A command whose output is held back waits on its pipe, and nothing of what it says
// is lost, also if it ends meanwhile; another command goes on.
func TestHeldOutput(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		h := newHost(t, config{})
		const size = 1 << 20
		for name, script := range map[string]string{
			"a flood":            "read x; head -c 1048576 /dev/zero",
			"less than a pipe":   "read x; printf %1048576s y | tail -c 100",
			"both outputs":       "read x; head -c 524288 /dev/zero; head -c 524288 /dev/zero >&2",
			"left by its leader": "read x; (head -c 1048576 /dev/zero)&",
		} {
			t.Run(name, func(t *testing.T) {
				h.t = t
				h.send(1, sh(script))
				h.ping() // It runs, or is about to: a hold is for either.
				h.send(1, &wire.ExecSignal{Output: wire.OutputHold})
				h.send(1, &wire.ExecSignal{Output: wire.OutputHold}) // Twice is once.
				h.send(1, &wire.ExecStdin{Data: []byte("now\n")})
				h.send(1, &wire.ExecStdin{})
				waitStuck(t)
				if got := h.say("echo beside"); got != "beside\n" {
					t.Errorf("another command says %q", got)
				}
				if n := h.kept(1, 2); n > 3 { // That it was started, and a read of each output that was under way.
					t.Errorf("%d frames have come of what is held back", n)
				}
				h.send(1, &wire.ExecSignal{Output: wire.OutputGo})
				want := size
				if name == "less than a pipe" {
					want = 100
				}
				r := h.collect(1)
				if n := len(r.stdout) + len(r.stderr); n != want || r.code != 0 {
					t.Errorf("%d bytes, want %d; code %d", n, want, r.code)
				}
			})
		}
	})
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// A client that leaves while its command's output is held back, or a machine that
// ends, does not wait for anybody to read.
func TestHeldOutputEnds(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		h := newHost(t, config{})
		h.send(1, sh("trap 'echo bye; exit 3' TERM; yes & wait"))
		h.ping()
		h.send(1, &wire.ExecSignal{Output: wire.OutputHold})
		h.send(2, sh("yes | head -c 10000000; touch /tmp/done"))
		h.send(2, &wire.ExecSignal{Output: wire.OutputHold})
		waitStuck(t)
		h.send(0, &wire.ClientDisconnected{IDStart: 2, IDEndExclusive: 3})
		eventually(t, "the command that nobody listens to ends", func() bool { return exists("/tmp/done") })
		h.send(0, &wire.Shutdown{})
		h.wait()
		h.agent.Finish(patience)
		// The flood hears the signal too, maybe a little later.
		if r := h.collect(1); r.code != 3 || !bytes.Contains(r.stdout, []byte("bye\n")) {
			t.Errorf("code %d, %d bytes", r.code, len(r.stdout))
		}
	})
}
