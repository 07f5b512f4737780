package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/agentd-go/agentd/internal/machines"
	"github.com/agentd-go/agentd/internal/vmtest"
	"github.com/agentd-go/agentd/sandbox"
	"github.com/agentd-go/agentd/wire"
)

// A savingStep is a moment of a pause, a snapshot or a restore, in which somebody is killed.
type savingStep struct {
	command string // With m for the machine.
	moment  string // A pattern of a file below the store, or the name of one of moments.
	kills   string // "tool", "supervisor" or "qemu".
	want    string // The phases that m may have then.
}

// savingSteps are in the order of their moments. The machine m runs before each, and the
// snapshot s is there.
var savingSteps = []savingStep{
	{"pause m", "machines/m/paused.tmp", "tool", "paused"},
	{"pause m", "machines/m/paused.tmp/state", "supervisor", "dead paused"},
	{"pause m", "machines/m/paused.tmp/state", "qemu", "failed stopped"},
	{"pause m", "machines/m/paused.tmp/manifest.json", "supervisor", "dead paused"},
	{"pause m", "machines/m/paused/manifest.json", "supervisor", "paused"},
	{"pause m", "machines/m/paused/manifest.json", "qemu", "paused"},
	{"snapshot create m t", "snapshots/t.tmp", "tool", "running"},
	{"snapshot create m t", "snapshots/t.tmp/state", "supervisor", "dead"},
	{"snapshot create m t", "snapshots/t.tmp/state", "qemu", "failed stopped"},
	{"snapshot create m t", "snapshots/t.tmp/disk1", "supervisor", "dead"},
	{"snapshot create m t", "snapshots/t.tmp/disk0", "supervisor", "dead"},
	{"snapshot create m t", "snapshots/t*/manifest.json", "supervisor", "dead"}, // Its own moment is too short to see.
	{"restore --name n s", "machines/.new-*/files", "tool", "running"},
	{"restore --name n s", "machines/.new-*/paused.tmp/state", "tool", "running"},
	{"restore --name n s", "machines/n/paused", "tool", "running"},
	{"fork m n", "snapshots/*.tmp/fork.tmp", "tool", "running"},
	{"fork m n", "machines/.new-*/files/upper", "tool", "running"},
}

// TestKilledWhileSaving kills the tool, the supervisor or QEMU at every step of a pause, a
// snapshot, a restore and a fork. The machine goes on or is as it was, nothing half is
// listed as whole, and the next try works.
func TestKilledWhileSaving(t *testing.T) {
	vmtest.Require(t)
	if os.Getenv("AGENTD_LONG") != "1" || wire.Newest < wire.BarrierSince {
		t.Skip("seventeen steps, each with some starts of machines: with AGENTD_LONG=1")
	}
	t.Setenv(sandbox.AgentVariable, vmtest.Agent(t))
	p := newScene(t)
	for _, k := range savingSteps {
		t.Run(strings.Join([]string{strings.Fields(k.command)[0], filepath.Base(k.moment), k.kills}, "/"), func(t *testing.T) {
			p.running(t)
			p.begin(t, k.command)
			p.await(t, func(p *scene) bool { return len(p.found(p.store.Dir(), k.moment)) > 0 })
			p.strike(t, k.kills)
			p.judgeSaving(t, k)
		})
	}
	p.agentctl(t, "rm -f m")
}

// running makes m run, and s a snapshot of it.
func (p *scene) running(t *testing.T) {
	t.Helper()
	if p.phase(t) == "" {
		p.agentctl(t, "create --warm -m 256m m")
		p.agentctl(t, "start m")
		p.agentctl(t, "exec m -- sh -c true")
	}
	if p.phase(t) != "running" {
		t.Fatalf("m is %s", p.phase(t))
	}
	if len(p.found(p.store.Dir(), "snapshots/s")) == 0 {
		p.agentctl(t, "snapshot create m s")
	}
}

func (p *scene) strike(t *testing.T, who string) {
	t.Helper()
	if who == "qemu" {
		if pid := p.qemu(); pid != 0 {
			_ = syscall.Kill(pid, syscall.SIGKILL) // It may have ended this moment.
		}
		_ = p.cmd.Wait() // It says what has happened.
		return
	}
	p.kill(t, map[string]victim{"tool": tool, "supervisor": supervisor}[who])
}

// qemu is the process that executes m; 0 is none.
func (p *scene) qemu() int {
	for _, dir := range p.found("/proc", "[0-9]*") {
		env, _ := os.ReadFile(filepath.Join(dir, "environ"))
		comm, _ := os.ReadFile(filepath.Join(dir, "comm"))
		if strings.Contains(string(env), machines.Variable+"="+p.dir()+"\x00") && strings.HasPrefix(string(comm), "qemu") {
			var pid int
			_, _ = fmt.Sscan(filepath.Base(dir), &pid) // 0 if it is none.
			return pid
		}
	}
	return 0
}

// judgeSaving looks at everything that is listed, uses it, and tries the command again.
func (p *scene) judgeSaving(t *testing.T, k savingStep) {
	t.Helper()
	wanted := strings.Fields(k.want)
	p.await(t, func(p *scene) bool { return !p.hasTemporary() })
	p.await(t, func(p *scene) bool { return contains(wanted, p.phaseOf(t, "m")) })
	for _, s := range p.snapshots(t) { // What is listed is whole.
		p.agentctl(t, "restore --name whole "+s)
		p.agentctl(t, "exec whole -- sh -c true")
		p.agentctl(t, "rm -f whole")
		if s != "s" {
			p.agentctl(t, "snapshot rm "+s)
		}
	}
	switch p.phaseOf(t, "n") {
	case "paused":
		p.agentctl(t, "resume n")
		fallthrough
	case "running":
		p.agentctl(t, "exec n -- sh -c true")
		p.agentctl(t, "rm -f n")
	}
	p.revive(t)
	p.agentctl(t, k.command) // The next try.
	switch strings.Fields(k.command)[0] {
	case "pause":
		p.agentctl(t, "resume m")
	case "snapshot":
		p.agentctl(t, "snapshot rm t")
	default:
		p.agentctl(t, "rm -f n")
	}
	p.agentctl(t, "exec m -- sh -c true")
}

// revive makes m run again.
func (p *scene) revive(t *testing.T) {
	t.Helper()
	switch p.phaseOf(t, "m") {
	case "running":
	case "paused":
		p.agentctl(t, "resume m")
	default:
		p.agentctl(t, "start m")
	}
	p.agentctl(t, "exec m -- sh -c true")
}

func contains(all []string, s string) bool {
	return strings.Contains(" "+strings.Join(all, " ")+" ", " "+s+" ")
}

// hasTemporary reports whether something is being made in the store, after its makers
// that were killed are swept away.
func (p *scene) hasTemporary() bool {
	_, _ = p.store.Snapshots()
	_, _ = p.store.List()
	return len(p.found(p.store.Dir(), "snapshots/*.tmp")) > 0
}

func (p *scene) phaseOf(t *testing.T, name string) string {
	t.Helper()
	var lines []machineLine
	if err := json.Unmarshal([]byte(p.agentctl(t, "ps -a --json")), &lines); err != nil {
		t.Fatal(err)
	}
	for _, l := range lines {
		if l.Name == name {
			return string(l.Phase)
		}
	}
	return ""
}

func (p *scene) snapshots(t *testing.T) []string {
	t.Helper()
	return strings.Fields(p.agentctl(t, "snapshot ls -q"))
}

// TestFullDisk makes a pause and a snapshot run out of room: the machine goes on, nothing
// is left, and the next try works.
func TestFullDisk(t *testing.T) {
	vmtest.Require(t)
	if os.Getenv("AGENTD_LONG") != "1" || os.Getuid() != 0 || wire.Newest < wire.BarrierSince {
		t.Skip("a file system of its own, which root can mount, with AGENTD_LONG=1")
	}
	t.Setenv(sandbox.AgentVariable, vmtest.Agent(t))
	p := newScene(t)
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=60m", "small", p.store.Dir()).CombinedOutput(); err != nil {
		t.Skipf("mount: %v: %s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command("umount", "-l", p.store.Dir()).Run() })
	p.agentctl(t, "create --warm -m 256m m")
	p.agentctl(t, "start m")
	p.agentctl(t, "exec m -- dd if=/dev/urandom of=/dev/shm/memory bs=1M count=60")
	for _, command := range []string{"pause m", "snapshot create m s", "fork m n"} {
		out, err := exec.CommandContext(context.WithoutCancel(t.Context()), "agentctl", p.words(command)...).CombinedOutput()
		if err == nil || !strings.Contains(strings.ToLower(string(out)), "no space") && !strings.Contains(string(out), "Unable to write") {
			t.Errorf("%s: %v: %s", command, err, out)
		}
		p.agentctl(t, "exec m -- sh -c true")
		if left := append(p.found(p.store.Dir(), "machines/m/paused*"), p.found(p.store.Dir(), "snapshots/*")...); len(left) > 0 {
			t.Errorf("%s has left %v", command, left)
		}
	}
	p.agentctl(t, "exec m -- rm /dev/shm/memory")
	if out, err := exec.Command("mount", "-o", "remount,size=600m", p.store.Dir()).CombinedOutput(); err != nil {
		t.Fatalf("remount: %v: %s", err, out)
	}
	for _, command := range []string{"pause m", "resume m", "snapshot create m s", "fork m n"} {
		p.agentctl(t, command)
	}
	p.agentctl(t, "rm -f m n")
}
