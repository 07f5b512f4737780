package suite

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/sandbox"
)

// defaultPath is the PATH of commands if no configuration sets one.
const defaultPath = "/.msb/scripts:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// TestMachine asks a machine with nothing special for everything.
//
//holds:boot 16: `/tmp`, `/var/tmp`: mode 1777, and everybody's
//holds:boot 21: `default_env`, PATH with the scripts once, HOME from the accounts
//holds:boot 25: a clock 5 s off is set, 50 ms off is left
//holds:boot 27: no zombies; 200 at once report 0; the group dies; −1 for a signal
func TestMachine(t *testing.T) {
	expect(t, sandbox.Config{Hostname: "suite", Env: []string{"Z=1", "A=a b"}}, behaviours())
}

// behaviours hold for every machine. Those after "accounts" need accounts.
func behaviours() []behaviour {
	return slices.Concat(
		[]behaviour{{"accounts", accounts}, {"files", files}},
		commands(), inputs(), attributes(), users(), failures(), terminals(), signals(), flows(), reaping(), state(),
	)
}

// accounts adds to the root's users: lookups are made at each request.
func accounts(g *guest) error {
	_, err := g.say(`
		printf 'alice:x:1001:1001::/home/alice:/bin/sh\n' >>/etc/passwd
		printf 'alice:x:1001:\ndevs:x:2000:alice\nops:x:2001:alice\n' >>/etc/group
		mkdir -p /home/alice; mkdir /private; chmod 700 /private`)
	return err
}

// files makes what can and cannot be started.
func files(g *guest) error {
	_, err := g.say(`
		mkdir /t; cd /t
		printf '#!/no/such\n' >script; printf text >plain; printf 'echo\n' >noline; printf '\177ELF' >elf
		chmod 755 script noline elf; chmod 644 plain
		ln -s /t/loop loop
		printf '#!/bin/sh\n' >busy; chmod 755 busy; sleep 100000 3>>busy >/dev/null 2>&1 </dev/null &
		mkdir scripts; printf '#!/bin/sh\necho mine\n' >/.msb/scripts/mine; chmod 755 /.msb/scripts/mine`)
	return err
}

// each makes behaviours of a list of commands.
func each(list ...command) (all []behaviour) {
	for _, c := range list {
		all = append(all, c.behaviour())
	}
	return all
}

// commands are codes, output, arguments and the environment (protocol sections
// 8.2 and 8.6).
//
//holds:wire 8: environment, PATH, HOME, groups, umask, limits, signal state
//holds:wire 8: signal to the group; −1 for death by signal; 0, negative and above 31 do nothing
func commands() []behaviour {
	return append(each(
		command{name: "code 0", argv: []string{"true"}},
		command{name: "code 1", argv: []string{"false"}, code: 1},
		command{name: "code 255", script: "exit 255", code: 255},
		command{name: "killed", script: "kill -9 $$", code: -1, signal: 9},
		command{name: "terminated", script: "kill $$", code: -1, signal: 15},
		command{name: "both outputs", script: "echo out; echo err >&2", stdout: "out\n", stderr: "err\n"},
		command{name: "arguments as they are", argv: []string{"printf", "<%s>", "", "a b", "ü\n", "*"}, stdout: "<><a b><ü\n><*>"},
		command{name: "default directory", argv: []string{"pwd"}, stdout: "/\n"},
		command{name: "its directory", argv: []string{"pwd"}, dir: "/etc", stdout: "/etc\n"},
		command{name: "directory closed to the user", argv: []string{"pwd"}, dir: "/private", user: "nobody", stdout: "/private\n"},
		command{name: "relative command", argv: []string{"./echo", "x"}, dir: "/bin", stdout: "x\n"},
		command{name: "argv[0] unchanged", argv: []string{"sh", "-c", "tr '\\0' '\\n' </proc/$$/cmdline | head -1"}, stdout: "sh\n"},
		command{name: "daemon does not delay", script: "sleep 1000 >/dev/null 2>&1 </dev/null & echo done", stdout: "done\n"},
		command{name: "child with the output delays", script: "(sleep 1; echo late) & echo early", stdout: "early\nlate\n"},
		command{name: "service with the output does not delay", script: "(sleep 9; echo late) & echo early", stdout: "early\n"},
		command{name: "scripts are in PATH", argv: []string{"mine"}, stdout: "mine\n"},
		command{
			name: "environment", argv: []string{"env"}, env: []string{"M=2=3", "B=", "novalue", "A=2", "A=3"},
			stdout: "A=3\nB=\nHOME=/root\nM=2=3\nPATH=" + defaultPath + "\nTERM=linux\nZ=1\n",
		},
		command{name: "default environment", script: `echo "$A $Z"`, stdout: "a b 1\n"},
		command{
			name: "its PATH and HOME", argv: []string{"/usr/bin/env"}, env: []string{"PATH=/p", "HOME=/h"},
			stdout: "A=a b\nHOME=/h\nPATH=/.msb/scripts:/p\nTERM=linux\nZ=1\n",
		},
		command{name: "later PATH wins", argv: []string{"/bin/sh", "-c", "echo $PATH"}, env: []string{"PATH=/p", "PATH=/q"}, stdout: "/q\n"},
		command{name: "empty PATH", argv: []string{"/bin/sh", "-c", "echo $PATH"}, env: []string{"PATH="}, stdout: "/.msb/scripts\n"},
	), behaviour{"scripts in PATH already", scriptsAlready})
}

// scriptsAlready is the one rule of the environment that changed: generation 4
// puts the scripts before every PATH.
func scriptsAlready(g *guest) error {
	want := "/bin:/.msb/scripts\n"
	if g.Client().Generation() == 4 {
		want = "/.msb/scripts:" + want
	}
	c := command{argv: []string{"/bin/sh", "-c", "echo $PATH"}, env: []string{"PATH=/bin:/.msb/scripts"}, stdout: want}
	return c.check(g)
}

// inputs are section 8.5.
func inputs() []behaviour {
	return append(
		each(
			command{name: "input", argv: []string{"cat"}, stdin: "one\ntwo", stdout: "one\ntwo"},
			command{
				name: "pipes open by their names", user: "alice", stdin: "in\n", stdout: "out\nin\n", stderr: "err\n",
				script: "echo out >/dev/stdout; echo err >/dev/stderr; cat /dev/stdin",
			},
			command{name: "no input", argv: []string{"cat"}},
		),
		converse("input stays open", script("read line; echo got $line; cat; echo over"),
			tell("first\n"), hear("got first\n"), tell("second\n"), hear("second\n"),
			func(d *dialog) error { return d.in.Close() }, hear("over\n"), exits(0)),
		converse("input nobody takes", script("exec <&-; echo closed; sleep 1; exit 3"),
			hear("closed\n"), tell("x"), exits(3)),
		converse("input after the end", script("exit 4"),
			hearEnd, func(d *dialog) error { _ = d.tell("late"); return nil }, exits(4)),
	)
}

func hearEnd(d *dialog) error {
	err := d.hear("\x00")
	if err != nil && len(d.heard) == 0 {
		return nil
	}
	return fmt.Errorf("heard %q: %w", d.heard, err)
}

// attributes are what a command starts with (section 8.4).
//
//holds:wire 8: environment, PATH, HOME, groups, umask, limits, signal state
//holds:wire 8: signal to the group; −1 for death by signal; 0, negative and above 31 do nothing
//holds:wire 8: descriptors of a child: 0, 1, 2
func attributes() []behaviour {
	noSignals := "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n"
	status := []string{"grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"}
	return append(
		each(
			command{name: "umask", script: "umask", stdout: "0022\n"},
			command{name: "signals", argv: status, stdout: noSignals},
			command{name: "signals on a terminal", argv: status, tty: true, stdout: "SigBlk:\t0000000000000000\r\nSigIgn:\t0000000000000000\r\n"},
			command{name: "signals by relay", argv: status, limits: []client.Limit{{Resource: "core"}}, stdout: noSignals},
			command{name: "descriptors", argv: []string{"ls", "/proc/self/fd"}, stdout: "0\n1\n2\n3\n"}, // 3 is the directory.
			command{
				name: "descriptors by relay", argv: []string{"ls", "/proc/self/fd"}, limits: []client.Limit{{Resource: "core"}},
				stdout: "0\n1\n2\n3\n",
			},
			command{name: "session of its own", argv: []string{"awk", "{print $1 == $5, $1 == $6}", "/proc/self/stat"}, stdout: "1 1\n"},
			command{
				name: "limits of one request", script: "ulimit -n; ulimit -Hn; ulimit -s; ulimit -f", stdout: "6\n8\n1024\nunlimited\n",
				limits: []client.Limit{{Resource: "NoFile", Soft: 6, Hard: 8}, {Resource: "unheard-of"}, {Resource: "stack", Soft: 1 << 20, Hard: 1 << 20}},
			},
			command{name: "default profile", argv: []string{"grep", "NoNewPrivs", "/proc/self/status"}, stdout: "NoNewPrivs:\t0\n"},
		),
		behaviour{"descriptors beside a terminal", func(g *guest) error {
			c := g.cmd("cat")
			c.TTY = true
			d, err := talk(c)
			if err != nil {
				return err
			}
			beside := command{argv: []string{"ls", "/proc/self/fd"}, stdout: "0\n1\n2\n3\n"}
			return errors.Join(beside.check(g), d.kill())
		}},
	)
}

// users are the table of section 8.3.
//
//holds:wire 8: environment, PATH, HOME, groups, umask, limits, signal state
func users() (all []behaviour) {
	for _, tt := range []struct{ spec, want string }{
		{"", "0 0 groups /root"},
		{" ", "0 0 groups /root"},
		{"root", "0 0 groups 0 /root"},
		{"0", "0 0 groups 0 /root"},
		{"alice", "1001 1001 groups 1001 2000 2001 /home/alice"},
		{"1001", "1001 1001 groups 1001 2000 2001 /home/alice"},
		{"01001", "1001 1001 groups 1001 2000 2001 /home/alice"},
		{"+1001", "1001 1001 groups 1001 2000 2001 /home/alice"},
		{" alice : devs ", "1001 2000 groups 2000 2000 2001 /home/alice"},
		{"alice:7", "1001 7 groups 7 2000 2001 /home/alice"},
		{"4242", "4242 0 groups /"},
		{"4242:devs", "4242 2000 groups /"},
	} {
		c := command{
			name: fmt.Sprintf("user %q", tt.spec), user: tt.spec, stdout: tt.want + "\n",
			script: `echo $(id -u) $(id -g) groups $(awk '/^Groups/ {$1 = ""; print}' /proc/self/status) $HOME`,
		}
		all = append(all, c.behaviour())
	}
	return all
}
