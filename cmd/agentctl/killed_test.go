package main

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/agentd-go/agentd/internal/image"
	"github.com/agentd-go/agentd/internal/imagetest"
	"github.com/agentd-go/agentd/internal/machines"
	"github.com/agentd-go/agentd/internal/vmtest"
	"github.com/agentd-go/agentd/sandbox"
)

// A killing is a process of ours that is killed with SIGKILL at a moment, which is
// recognized by what is there on this host.
type killing struct {
	first  string // A command that is run to its end before.
	tool   string // The command in which the moment comes.
	moment string // The name of one of moments.
	victim victim
	want   string // The phase that ps shows then; "" is no machine.
	// settles is a machine that comes to that phase by itself: nobody of its own was
	// killed.
	settles bool
	long    bool // Only with AGENTD_LONG=1.
}

// A victim is the program that is killed.
type victim int

const (
	tool       victim = iota // The command itself.
	supervisor               // The one that the machine has.
	both
)

// killings are in the order of a machine's life. ARCHIVE is an image that takes a
// moment to import; a machine with the init /none does not boot.
var killings = []killing{
	{tool: "image import ARCHIVE m", moment: "importing", long: true},
	{tool: "create --image ARCHIVE m", moment: "importing"},
	{tool: "run --name m --image ARCHIVE -- true", moment: "importing", long: true},
	{tool: "run --name m -- true", moment: "record", want: "created dead"},
	{tool: "run --name m -- true", moment: "starting", want: "dead"},
	{tool: "run --cold --name m -- true", moment: "virtiofsd", want: "dead"},
	{tool: "run --name m -- true", moment: "qemu", want: "dead"},
	{tool: "run --name m -- sleep 1000", moment: "running", want: "dead"},
	{tool: "run --name m -- true", moment: "stopping", want: "dead"},
	{tool: "run --name m -- true", moment: "vanishing", long: true},
	{tool: "run --keep --name m --init /none -- true", moment: "failed", want: "failed", long: true},
	{first: "create m", tool: "start m", moment: "record", victim: both, want: "created dead"},
	{first: "create m", tool: "start m", moment: "starting", victim: both, want: "dead"},
	{first: "create m", tool: "start m", moment: "starting", victim: tool, want: "running", settles: true, long: true},
	{first: "create --cold m", tool: "start m", moment: "virtiofsd", victim: both, want: "dead"},
	{first: "create m", tool: "start m", moment: "qemu", victim: both, want: "dead"},
	{first: "create m", tool: "start m", moment: "running", victim: both, want: "dead"},
	{first: "create --init /none m", tool: "start m", moment: "failed", victim: supervisor, want: "failed"},
	{first: "run -d --name m", tool: "stop m", moment: "stopping", victim: supervisor, want: "dead"},
	{first: "run -d --name m", tool: "stop m", moment: "stopping", victim: tool, want: "stopped", settles: true, long: true},
	{first: "run -d --name m", tool: "stop m", moment: "stopped", victim: supervisor, want: "stopped", long: true},
	{first: "run -d --name m", tool: "rm -f m", moment: "vanishing", long: true},
	{first: "create --survive m", tool: "start m", moment: "qemu", victim: both, want: "failed dead"},
	{first: "create --survive m", tool: "start m", moment: "running", victim: both, want: "running"},
	{first: "run -d --survive --name m", tool: "stop m", moment: "stopping", victim: supervisor, want: "failed dead"},
}

// A scene is where commands work: a store, a cache and a directory for temporary
// files of their own.
type scene struct {
	store   *machines.Store
	cache   string
	archive string
	cmd     *exec.Cmd
	state   machines.State // As it was last written down.
}

// moments are asked again and again until they have come.
var moments = map[string]func(*scene) bool{
	"importing": func(p *scene) bool { return len(p.found(p.cache, "tmp/*/entry/*")) > 0 },
	"record":    func(p *scene) bool { return len(p.found(p.dir(), "record.json")) > 0 },
	"starting":  saying(machines.Starting),
	"virtiofsd": func(p *scene) bool { return p.hasProcess("virtiofsd") },
	"qemu":      func(p *scene) bool { return p.hasProcess("qemu") },
	"running":   saying(machines.Running),
	"stopping":  saying(machines.Stopping),
	"stopped":   saying(machines.Stopped),
	"failed":    saying(machines.Failed),
	// It has lost its name, and not its files yet.
	"vanishing": func(p *scene) bool { return len(p.found(p.store.Dir(), "machines/.old-*/machine")) > 0 },
}

// saying is the moment in which the machine's supervisor has written a phase down.
func saying(phase machines.Phase) func(*scene) bool {
	return func(p *scene) bool {
		b, err := os.ReadFile(filepath.Join(p.dir(), "state.json"))
		return err == nil && json.Unmarshal(b, &p.state) == nil && p.state.Phase == phase
	}
}

func (*scene) found(dir, pattern string) []string {
	all, _ := filepath.Glob(filepath.Join(dir, pattern)) // The pattern is well formed.
	return all
}

// dir is the machine's directory.
func (p *scene) dir() string { return filepath.Join(p.store.Dir(), "machines", "m") }

// hasProcess looks for a machine's process as ps(1) would.
func (p *scene) hasProcess(name string) bool {
	return slices.ContainsFunc(p.processes(), func(comm string) bool { return strings.Contains(comm, name) })
}

// processes are the programs with the mark of a machine of the store in their
// environment.
func (p *scene) processes() (all []string) {
	for _, dir := range p.found("/proc", "[0-9]*") {
		env, _ := os.ReadFile(filepath.Join(dir, "environ"))
		if bytes.Contains(env, []byte(machines.Variable+"="+p.store.Dir()+"/")) {
			program, _ := os.ReadFile(filepath.Join(dir, "comm"))
			all = append(all, strings.TrimSpace(string(program)))
		}
	}
	return all
}

// TestKilledAtEveryMoment kills tools and supervisors with SIGKILL at every moment
// of a machine's life: ps tells the truth then, and rm leaves nothing.
func TestKilledAtEveryMoment(t *testing.T) {
	vmtest.Require(t)
	t.Setenv(sandbox.AgentVariable, vmtest.Agent(t))
	for _, k := range killings {
		name := strings.Fields(k.tool)[0] + "/" + k.moment + []string{"", "/supervisor", "/both"}[k.victim]
		t.Run(name, func(t *testing.T) {
			if k.long && os.Getenv("AGENTD_LONG") != "1" {
				t.Skip("one of the kind is enough each time: AGENTD_LONG=1 for all")
			}
			p := newScene(t)
			if k.moment == "importing" {
				p.imports(t)
			}
			if k.first != "" {
				p.agentctl(t, k.first)
			}
			p.begin(t, k.tool)
			p.await(t, moments[k.moment])
			p.kill(t, k.victim)
			p.judge(t, k)
		})
	}
}

func newScene(t *testing.T) *scene {
	t.Helper()
	dir, err := os.MkdirTemp("", "store-") //nolint:usetesting // The path of a socket in it must be short.
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	p := &scene{}
	if p.store, err = machines.Open(dir); err != nil {
		t.Fatal(err)
	}
	t.Setenv(machines.StateVariable, dir)
	t.Setenv("TMPDIR", t.TempDir())
	return p
}

// imports makes an archive, and a cache of its own: one without kernels.
func (p *scene) imports(t *testing.T) {
	t.Helper()
	p.cache, p.archive = t.TempDir(), filepath.Join(t.TempDir(), "root.tar")
	t.Setenv(image.CacheVariable, p.cache)
	const size = 64 << 20 // A tenth of a second.
	large := &tar.Header{Name: "large", Typeflag: tar.TypeReg, Mode: 0o644, Size: size}
	archive := imagetest.Tar(t, []*tar.Header{large}, map[string]string{"large": strings.Repeat("large", size/5+1)[:size]})
	if err := os.WriteFile(p.archive, archive, 0o600); err != nil {
		t.Fatal(err)
	}
}

// words are the arguments of a command.
func (p *scene) words(command string) []string {
	return strings.Fields(strings.ReplaceAll(command, "ARCHIVE", p.archive))
}

func (p *scene) agentctl(t *testing.T, command string) string {
	t.Helper()
	out, err := exec.Command("agentctl", p.words(command)...).Output()
	if err != nil {
		exit, _ := errors.AsType[*exec.ExitError](err)
		t.Fatalf("agentctl %s: %v\n%s", command, err, exit.Stderr)
	}
	return string(out)
}

func (p *scene) begin(t *testing.T, command string) {
	t.Helper()
	p.cmd = exec.Command("agentctl", p.words(command)...)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.cmd.Process.Kill() })
}

// patience is for a boot on a busy host.
const patience = 60 * time.Second

// await asks without a pause: some moments are short.
func (p *scene) await(t *testing.T, came func(*scene) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for !came(p) {
		if ctx.Err() != nil {
			t.Fatalf("the moment did not come; the last state: %+v", p.state)
		}
	}
}

func (p *scene) kill(t *testing.T, v victim) {
	t.Helper()
	if v != supervisor {
		if err := p.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = p.cmd.Wait() // It was killed.
	}
	if v == tool {
		return
	}
	if m, err := p.store.Get("m"); err == nil {
		s, err := m.Status()
		if err != nil {
			t.Fatal(err)
		}
		if s.Alive && s.PID != 0 {
			_ = syscall.Kill(s.PID, syscall.SIGKILL) // It may have ended this moment.
		}
		_, _ = m.Await(t.Context())
	}
	_ = p.cmd.Wait() // It waited for the supervisor, and says so.
}

// phase is what ps shows of the machine.
func (p *scene) phase(t *testing.T) string {
	t.Helper()
	var lines []machineLine
	if err := json.Unmarshal([]byte(p.agentctl(t, "ps -a --json")), &lines); err != nil {
		t.Fatal(err)
	}
	if len(lines) == 0 {
		return ""
	}
	return string(lines[0].Phase)
}

// judge holds what ps says against what is wanted, and rm to its word.
func (p *scene) judge(t *testing.T, k killing) {
	t.Helper()
	wanted := strings.Split(k.want, " ")
	if k.settles {
		p.await(t, func(*scene) bool { return slices.Contains(wanted, p.phase(t)) })
	}
	got := p.phase(t)
	if !slices.Contains(wanted, got) {
		t.Errorf("ps says %q, want %q", got, wanted)
	}
	if got != "" {
		p.agentctl(t, "rm -f m")
	}
	if k.moment == "importing" {
		p.agentctl(t, "image import ARCHIVE again") // The cache is of use.
		if left := p.found(p.cache, "tmp/*"); len(left) > 0 {
			t.Errorf("left in the cache: %v", left)
		}
	}
	p.empty(t)
}

// empty fails the test if anything is left of a machine.
func (p *scene) empty(t *testing.T) {
	t.Helper()
	left := slices.Concat(p.processes(), p.found(p.store.Dir(), "machines/*"), p.found(p.store.Dir(), "machines/.[a-z]*"), p.found(os.Getenv("TMPDIR"), "*"))
	if len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
