package suite

import (
	"fmt"
	"strings"
	"time"
)

// signals are section 8.7.
func signals() []behaviour {
	return []behaviour{
		converse("signal is delivered", script("trap 'echo usr1; exit 5' USR1; echo ready; while :; do sleep 0.1; done"),
			hear("ready\n"), signal(10), hear("usr1\n"), exits(5)),
		converse("signal reaches the group", script("sleep 4321 & sleep 4321 & echo ready; wait"), hear("ready\n"), signal(9), exits(-1)),
		{"signal leaves none of the group", func(g *guest) error { return g.gone("sleep", "4321") }},
		converse("signal after the leader's end", script("sleep 4322 & echo ready; exit 4"), hear("ready\n"), signal(15), exits(4)),
		converse("signal spares another session", script("setsid sleep 4323 >/dev/null 2>&1 </dev/null & echo ready; sleep 1000"),
			hear("ready\n"), signal(9), exits(-1)),
		{"survivor", survivor},
	}
}

// survivor is the process that left the session before its signal.
func survivor(g *guest) error {
	out, err := g.say("pgrep -f 'sleep 4323' || ps | grep '[s]leep 4323'")
	if err != nil || strings.TrimSpace(out) == "" {
		return fmt.Errorf("it is gone: %w", err)
	}
	_, err = g.say("kill -9 $(ps | awk '/[s]leep 4323/ {print $1}')")
	return err
}

// gone waits until no process has these words in its command line.
func (g *guest) gone(words ...string) error {
	pattern := "[" + words[0][:1] + "]" + words[0][1:] + " " + strings.Join(words[1:], " ")
	return g.until("0\n", "ps | grep -c '"+pattern+"'; true")
}

// until repeats a script until it prints what is wanted.
func (g *guest) until(want, script string) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		got, err := g.say(script)
		if err != nil || got == want {
			return err
		}
		select {
		case <-tick.C:
		case <-g.ctx.Done():
			return fmt.Errorf("%s prints %q, want %q", script, got, want)
		}
	}
}
