package suite

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// signals are section 8.7.
func signals() []behaviour {
	return []behaviour{
		converse("signal is delivered", script("trap 'echo usr1; exit 5' USR1; echo ready; while :; do sleep 0.1; done"),
			hear("ready\n"), signal(10), hear("usr1\n"), exits(5)),
		soon(converse("signal reaches the group", script("sleep 4321 & sleep 4321 & echo ready; wait"),
			hear("ready\n"), signal(9), exits(-1))),
		soon(behaviour{"signal leaves none of the group", func(g *guest) error { return g.gone("sleep", "4321") }}),
		soon(behaviour{"signal after the leader's end", orphanedGroup}),
		converse("signal spares another session", script("setsid sh -c 'echo ready; exec sleep 4323 >/dev/null 2>&1' & sleep 1000"),
			hear("ready\n"), signal(9), exits(-1)),
		{"survivor", survivor},
	}
}

// soon gives a behaviour a short time, where an agent that lacks it shows that by
// waiting.
func soon(b behaviour) behaviour {
	const limit = 10 * time.Second
	check := b.check
	b.check = func(g *guest) error {
		ctx, cancel := context.WithTimeout(g.ctx, limit)
		defer cancel()
		return check(&guest{Machine: g.Machine, ctx: ctx})
	}
	return b
}

// survivor is the process that left the session before its signal.
func survivor(g *guest) error {
	_, err := g.say("kill -9 $(ps | awk '/[s]leep 4323/ {print $1}')")
	return err
}

// orphanedGroup signals a command whose leader has ended and whose child has not.
func orphanedGroup(g *guest) error {
	d, err := talk(g.sh("sleep 4322 & echo ready; exit 4"))
	if err != nil {
		return err
	}
	err = d.hear("ready\n")
	if err == nil {
		err = g.until("gone\n", fmt.Sprintf("test -e /proc/%d || echo gone", d.PID()))
	}
	if err == nil {
		err = d.Signal(15)
	}
	return errors.Join(err, endsWith(d.end(), 4), g.gone("sleep", "4322"))
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
