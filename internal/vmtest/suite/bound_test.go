package suite

import (
	"fmt"
	"strings"
	"testing"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/sandbox"
)

// TestBoundMachine asks a machine with limits, a default user and the restricted
// profile.
//
//holds:boot 7: soft and hard limits in every command and in an init
//holds:boot 13: restricted: no new privileges, no CAP_SYS_ADMIN, no mount; nosuid and nodev on user mounts; default: neither
//holds:wire 9: one response to each request: listings, late and refused writes
//holds:wire 19a: 40,000 names in one listing, 60,000 by pages
//holds:boot 25: ping, touch and the clock as in 7
func TestBoundMachine(t *testing.T) {
	expect(t, sandbox.Config{
		User: "1000:1000", Restricted: true, Hostname: "bound",
		Limits: []client.Limit{
			{Resource: "nofile", Soft: 64, Hard: 128},
			{Resource: "fsize", Soft: 1 << 20, Hard: 2 << 20},
			{Resource: "as", Soft: 32 << 20, Hard: 64 << 20},
			{Resource: "cpu", Soft: 2, Hard: 4},
			{Resource: "core", Soft: 0, Hard: 0},
		},
	}, boundBehaviours())
}

func boundBehaviours() []behaviour {
	const admin = 21 // CAP_SYS_ADMIN
	return append(
		each(
			command{name: "bound: default user", script: "id -u; id -g; echo $HOME", stdout: "1000\n1000\n/home/user\n"},
			command{name: "bound: another user", argv: []string{"id", "-u"}, user: "root", stdout: "0\n"},
			command{name: "bound: no new privileges", argv: []string{"grep", "NoNewPrivs", "/proc/self/status"}, stdout: "NoNewPrivs:\t1\n"},
			command{name: "bound: the agent's own rights", argv: []string{"grep", "NoNewPrivs", "/proc/1/status"}, stdout: "NoNewPrivs:\t0\n"},
			command{
				name: "bound: mount", script: "mount -t tmpfs none /mnt 2>&1 | grep -o 'permission denied'", user: "root",
				stdout: "permission denied\n",
			},
			command{name: "bound: processor time", script: "while :; do :; done", code: -1, signal: 24},
			command{name: "bound: file size", argv: []string{"dd", "if=/dev/zero", "of=/tmp/large", "bs=1M", "count=2"}, code: -1, signal: 25},
			command{name: "bound: its own limits win", script: "ulimit -n", stdout: "32\n", limits: []client.Limit{{Resource: "nofile", Soft: 32, Hard: 128}}},
		),
		behaviour{"bound: limits", boundLimits},
		behaviour{"bound: capabilities", func(g *guest) error { return g.lacks("root", admin) }},
		behaviour{"bound: agent is alive", func(g *guest) error {
			_, err := g.alive()
			return err
		}},
	)
}

func boundLimits(g *guest) error {
	out, err := g.say("cat /proc/self/limits")
	if err != nil {
		return err
	}
	for name, want := range map[string]string{
		"Max open files": "64 128 files", "Max file size": "1048576 2097152 bytes",
		"Max address space": "33554432 67108864 bytes", "Max cpu time": "2 4 seconds", "Max core file size": "0 0 bytes",
	} {
		_, rest, found := strings.Cut(out, name)
		line, _, _ := strings.Cut(rest, "\n")
		if got := strings.Join(strings.Fields(line), " "); !found || got != want {
			return fmt.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	return nil
}

// lacks is an error if a command of the user has a capability, or could get it.
func (g *guest) lacks(user string, capability int) error {
	c := g.cmd("grep", "-E", "^Cap(Inh|Prm|Eff|Bnd|Amb)", "/proc/self/status")
	c.User = user
	out, err := c.Output()
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(out)) {
		var name string
		var set uint64
		if _, err := fmt.Sscanf(line, "%s %x", &name, &set); err != nil {
			return err
		}
		if set&(1<<capability) != 0 {
			return fmt.Errorf("capability %d is in %s", capability, line)
		}
	}
	return nil
}
