package suite

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/internal/hooks"
	"github.com/agentd-go/agentd/internal/vmtest"
	"github.com/agentd-go/agentd/sandbox"
	"github.com/agentd-go/agentd/wire"
)

const needsHandover = "its init gets what it is given by another way"

// stubborn is an init that says what it was given, and ignores every wish.
const stubborn = `#!/bin/sh
for a; do printf '<%s>' "$a"; done >/seen.args
env >/seen.env
pwd >/seen.dir
ulimit -n >/seen.nofile
ulimit -t >/seen.cpu
trap '' TERM INT USR1 USR2
exec 7>/held; echo held >&7
echo >/up
while :; do sleep 1 & wait; done
`

// scripted is a root with that script as /sbin/the init.
func scripted(t *testing.T) string {
	t.Helper()
	root := vmtest.Root(t)
	plant(t, filepath.Join(root, "sbin/the init"), stubborn)
	return root
}

func plant(t *testing.T, path, content string) {
	t.Helper()
	const executable = 0o755
	if err := errors.Join(os.RemoveAll(path), os.WriteFile(path, []byte(content), executable)); err != nil {
		t.Fatal(err)
	}
}

// What an init is given, and what the agent is beside it.
//
//holds:boot 7: soft and hard limits in every command and in an init
//holds:boot 22: PID 1 is the init, its directory, arguments with spaces and empty ones; no port
//holds:boot 22: the agent's parent is 1, its session its own; commands work
func TestHandover(t *testing.T) {
	ownOnly(t, needsHandover)
	for _, c := range vmtest.Combinations(t) {
		t.Run(c.String(), func(t *testing.T) {
			t.Parallel()
			cfg := sandbox.Config{
				Root: scripted(t), Init: "/sbin/the init", InitArgs: []string{"a b", "", `c'$d\`, ""},
				InitEnv: []string{"B=over", "C=x=y z"}, Env: []string{"A=first", "B=second"},
				Limits: []client.Limit{{Resource: "nofile", Soft: 4096, Hard: 4096}, {Resource: "cpu", Soft: 7, Hard: 8}},
			}
			if c.Configuration == sandbox.ByBootstrap {
				cfg.InitDir = "/home/user"
			}
			m := vmtest.Start(t, c.Config(cfg))
			g := in(t, m)
			for _, b := range slices.Concat(given(cfg.InitDir), beside()) {
				t.Run(b.name, func(t *testing.T) {
					if err := b.check(g); err != nil {
						t.Error(err)
					}
				})
			}
			end(t, m)
			// The init has a file open for writing and ignores every signal.
			if b, err := os.ReadFile(filepath.Join(cfg.Root, "held")); err != nil || string(b) != "held\n" {
				t.Errorf("the file that the init held: %q, %v", b, err)
			}
		})
	}
}

// given is what the init says of itself.
func given(dir string) []behaviour {
	if dir == "" {
		dir = "/"
	}
	return slices.Concat([]behaviour{{"runs", func(g *guest) error {
		_, err := g.say("until [ -e /up ]; do sleep 0.05; done")
		return err
	}}}, each(
		command{name: "arguments", script: "cat /seen.args", stdout: `<a b><><c'$d\><>`},
		command{name: "variables", script: "grep -E '^(A|B|C|HOME)=' /seen.env | sort", stdout: "A=first\nB=over\nC=x=y z\nHOME=/\n"},
		command{name: "nothing of the configuration", script: "tr '\\0' '\\n' </proc/1/environ | grep -E '^(MSB_|AGENTD_|KRUN_)'", code: 1},
		command{name: "directory", script: "cat /seen.dir; readlink /proc/1/cwd", stdout: dir + "\n" + dir + "\n"},
		command{name: "limits", script: "cat /seen.nofile /seen.cpu; ulimit -n; ulimit -t", stdout: "4096\n7\n4096\n7\n"},
		command{name: "name", script: "cat /proc/1/comm", stdout: "the init\n"},
		command{name: "program", script: "readlink /proc/1/exe", stdout: "/bin/busybox\n"},
		command{name: "no port", script: "ls -l /proc/1/fd /proc/$$/fd | grep -e vport -e socket", code: 1},
		// C libraries block all signals for the moment of a fork.
		command{name: "signals", script: "n=0; until grep -q 'SigBlk.*0000000000000000$' /proc/1/status || [ $((n += 1)) -gt 100 ]; do :; done; grep -E 'SigBlk|SigIgn' /proc/1/status", stdout: ignored},
	))
}

// ignored is what the script itself ignores, INT, USR1, USR2 and TERM, and what every
// BusyBox shell does, QUIT.
const ignored = "SigBlk:\t0000000000000000\nSigIgn:\t0000000000004a06\n"

// beside is what the agent is, and what its commands are.
func beside() []behaviour {
	// The agent is the parent of its commands.
	return slices.Concat(each(
		command{name: "agent's name", script: "cat /proc/$PPID/comm", stdout: "agentd\n"},
		command{name: "agent's parent", script: "awk '{print $4}' /proc/$PPID/stat", stdout: "1\n"},
		command{name: "agent's session", script: "awk -v p=$PPID '{print $6 == p}' /proc/$PPID/stat", stdout: "1\n"},
		command{name: "agent's environment", script: "wc -c </proc/$PPID/environ", stdout: "0\n"},
		command{name: "agent's limits", script: "awk '/cpu time/{print $4}' /proc/$PPID/limits", stdout: "unlimited\n"},
		command{name: "last to be ended", script: "cat /proc/$PPID/oom_score_adj", stdout: "-1000\n"},
		command{name: "commands are not", script: "cat /proc/self/oom_score_adj; sh -c 'cat /proc/self/oom_score_adj'", stdout: "0\n0\n"},
		command{name: "variables of commands", script: "echo $A $B $C", stdout: "first second\n"},
		command{name: "errors go to the log", script: "ls -l /proc/$PPID/fd | grep -c agentd.log", stdout: "2\n"},
		command{name: "log", script: "test -f /run/microsandbox/agentd.log && wc -c </run/microsandbox/agentd.log", stdout: "0\n"},
		command{name: "orphans go to the init", script: "(sleep 1000 >/dev/null 2>&1 & echo $! >/orphan); awk '{print $4}' /proc/$(cat /orphan)/stat; kill $(cat /orphan)", stdout: "1\n"},
	), []behaviour{{"files", filesOverPort}})
}

// filesOverPort writes and reads a file by the protocol.
func filesOverPort(g *guest) error {
	const content = "by the protocol\n"
	if err := g.Client().WriteFile(g.ctx, "/tmp/file", []byte(content), 0o600); err != nil {
		return err
	}
	if b, err := g.Client().ReadFile(g.ctx, "/tmp/file"); err != nil || string(b) != content {
		return fmt.Errorf("read %q, %w", b, err)
	}
	return nil
}

// hasty is an init that ends the machine, and everybody in it, as soon as its one
// process has gone, as that of OpenRC does.
const hasty = `#!/bin/sh
trap '' TERM INT
exec 7>/held; echo held >&7
echo >/up
sleep 1000
kill -9 -1
exec reboot -f
`

// An init that holds a file of a disk open, and ignores every wish or does not leave
// the agent its time, does not keep the disk from being left clean.
func TestHandoverStubborn(t *testing.T) {
	ownOnly(t, needsHandover)
	inits := map[string]string{"ignores": stubborn, "hurries": hasty}
	eachKernel(t, func(t *testing.T, kernel string) {
		t.Helper()
		for name, script := range inits {
			t.Run(name, func(t *testing.T) { stubbornOnDisk(t, kernel, script) })
		}
	})
}

func stubbornOnDisk(t *testing.T, kernel, init string) {
	t.Helper()
	root := vmtest.Root(t)
	plant(t, filepath.Join(root, "sbin/the init"), init)
	disk := vmtest.Disk(t, "ext4", root)
	m := vmtest.Start(t, hooks.With(sandbox.Config{Kernel: kernel, Disks: []sandbox.Disk{{Path: disk}}}, hooks.Machine{Bootstrap: &wire.Bootstrap{
		BlockRoot: &wire.DiskImage{Device: "/dev/vda"}, HandoffInit: &wire.HandoffInit{Cmd: "/sbin/the init"},
	}}))
	if _, err := in(t, m).say("until [ -e /up ]; do sleep 0.05; done"); err != nil {
		t.Fatal(err)
	}
	end(t, m)
	if dirty(t, disk) {
		t.Error("the journal needs recovery")
	}
}

// An init that cannot be one ends the boot, and the error says why.
//
//holds:boot 22: what cannot be executed ends the machine
func TestHandoverRefused(t *testing.T) {
	ownOnly(t, needsHandover)
	kernel := vmtest.Kernels(t)
	for _, r := range []struct {
		name, init, dir, reason string
	}{
		{"missing", "/no/init", "", "init failed: step handover: init /no/init: "},
		{"not executable", "/etc/passwd", "", "init failed: step handover: init /etc/passwd: not executable (mode 0644)"},
		{"directory", "/etc", "", "init failed: step handover: init /etc: is a directory"},
		{"fifo", "/fifo", "", "init failed: step handover: init /fifo: not a regular file"},
		{"loop", "/loop", "", "init failed: step handover: init /loop: "},
		{"auto", "auto", "", "init failed: step handover: no init found: /sbin/init: no such file or directory; /lib/systemd/systemd: "},
		{"no directory", "/bin/sh", "/no/dir", "init failed: step handover: directory of the init /no/dir: "},
		{"file as directory", "/bin/sh", "/etc/passwd", "init failed: step handover: directory of the init /etc/passwd: not a directory"},
		{"no interpreter", "/broken", "", `handoff failed: exec "/broken": no such file or directory`},
		{"no format", "/text", "", `handoff failed: exec "/text": exec format error`},
	} {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			root := vmtest.Root(t)
			plant(t, filepath.Join(root, "broken"), "#!/no/interpreter\n")
			plant(t, filepath.Join(root, "text"), "text\n")
			if err := errors.Join(os.Symlink("loop", filepath.Join(root, "loop")), os.RemoveAll(filepath.Join(root, "sbin/init")),
				mkfifo(filepath.Join(root, "fifo"))); err != nil {
				t.Fatal(err)
			}
			m, err := sandbox.Start(t.Context(), vmtest.Config(t, sandbox.Config{
				Kernel: kernel[len(kernel)-1], Root: root, Init: r.init, InitDir: r.dir,
			}))
			if err == nil {
				t.Fatal(errors.Join(errors.New("it was not refused"), m.Kill()))
			}
			failed, ok := errors.AsType[*sandbox.BootError](err)
			if !ok || !strings.HasPrefix(failed.Reason, r.reason) {
				t.Errorf("got %v, want %q", err, r.reason)
			}
			if ok && !strings.Contains(failed.Err.Error(), "the agent says: "+r.reason) {
				t.Errorf("the host was not told: %v", failed.Err)
			}
		})
	}
}

// asked is an init that says which wish to end the machine it heard first, and grants it.
const asked = `#!/bin/sh
trap 'echo 39 >>/asked; sync; exec reboot -f' 39
trap 'echo 15 >>/asked; sync; exec reboot -f' TERM
echo >/up
while :; do sleep 0.1; done
`

// An unknown init is asked as the reference agents ask it.
func TestHandoverScript(t *testing.T) {
	ownOnly(t, needsHandover)
	eachKernel(t, func(t *testing.T, kernel string) {
		t.Helper()
		root := vmtest.Root(t)
		plant(t, filepath.Join(root, "sbin/the init"), asked)
		m := vmtest.Start(t, sandbox.Config{Kernel: kernel, Root: root, Init: "/sbin/the init"})
		if _, err := in(t, m).say("until [ -e /up ]; do sleep 0.05; done"); err != nil {
			t.Fatal(err)
		}
		end(t, m)
		if b, err := os.ReadFile(filepath.Join(root, "asked")); err != nil || string(b) != "39\n" {
			t.Errorf("the init heard %q, %v", b, err)
		}
	})
}
