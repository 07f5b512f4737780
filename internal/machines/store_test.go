package machines_test

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/agentd-go/agentd/internal/machines"
	"github.com/agentd-go/agentd/sandbox"
)

func open(t *testing.T) *machines.Store {
	t.Helper()
	s, err := machines.Open(filepath.Join(t.TempDir(), "a [store]*")) // A name, though a pattern too.
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func create(t *testing.T, s *machines.Store, r machines.Record) *machines.Machine {
	t.Helper()
	m, err := s.Create(r)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func phase(t *testing.T, m *machines.Machine) machines.Phase {
	t.Helper()
	s, err := m.Status()
	if err != nil {
		t.Fatal(err)
	}
	return s.Phase
}

func TestCreateGetRemove(t *testing.T) {
	s := open(t)
	m := create(t, s, machines.Record{Name: "dev", Labels: map[string]string{"a": "b"}})
	if got := phase(t, m); got != machines.Created {
		t.Errorf("new machine is %s", got)
	}
	if _, err := s.Create(machines.Record{Name: "dev"}); !errors.Is(err, machines.ErrExists) {
		t.Errorf("second of the name: %v", err)
	}
	again, err := s.Get("dev")
	if err != nil || again.Record().Labels["a"] != "b" || again.Record().Created.IsZero() {
		t.Errorf("found %+v, %v", again, err)
	}
	if err := m.Stop(t.Context(), machines.StopRequest{}); !errors.Is(err, machines.ErrNotRunning) {
		t.Errorf("stop: %v", err)
	}
	if err := m.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get("dev"); !errors.Is(err, machines.ErrNotFound) {
		t.Errorf("after its removal: %v", err)
	}
	if err := m.Remove(t.Context()); !errors.Is(err, machines.ErrNotFound) {
		t.Errorf("second removal: %v", err)
	}
	empty(t, s)
}

func empty(t *testing.T, s *machines.Store) {
	t.Helper()
	left, err := os.ReadDir(filepath.Join(s.Dir(), "machines"))
	if err != nil || len(left) > 0 {
		t.Errorf("left in the store: %v, %v", left, err)
	}
}

func TestNames(t *testing.T) {
	s := open(t)
	for _, name := range []string{".", "..", ".hidden", "a/b", "a b", "-x", strings.Repeat("a", 41), "ä"} {
		if m, err := s.Create(machines.Record{Name: name}); err == nil {
			t.Errorf("name %q is taken as %s", name, m.Name())
		}
		if _, err := s.Get(name); !errors.Is(err, machines.ErrNotFound) {
			t.Errorf("get %q: %v", name, err)
		}
	}
	if a, b := create(t, s, machines.Record{}), create(t, s, machines.Record{}); a.Name() == b.Name() {
		t.Errorf("two are named %s", a.Name())
	}
}

// Whoever makes the same name at the same time: one does.
func TestCreateAtOnce(t *testing.T) {
	s := open(t)
	var all sync.WaitGroup
	made := make(chan bool, 20)
	for range cap(made) {
		all.Go(func() {
			_, err := s.Create(machines.Record{Name: "one"})
			if err != nil && !errors.Is(err, machines.ErrExists) {
				t.Error(err)
			}
			made <- err == nil
		})
	}
	all.Wait()
	close(made)
	n := 0
	for ok := range made {
		if ok {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d were made", n)
	}
}

// List shows machines in the order of their making, goes on after a broken one,
// and sweeps away what a killed program has left.
func TestList(t *testing.T) {
	s := open(t)
	for _, name := range []string{"b", "broken", "a"} {
		create(t, s, machines.Record{Name: name})
	}
	dir := filepath.Join(s.Dir(), "machines")
	for _, path := range []string{".new-1/files/root", ".old-2/machine"} {
		if err := os.MkdirAll(filepath.Join(dir, path), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "broken", "record.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	all, err := s.List()
	if err == nil || !strings.Contains(err.Error(), "broken") {
		t.Errorf("the broken one: %v", err)
	}
	if len(all) != 2 || all[0].Name() != "b" || all[1].Name() != "a" {
		t.Errorf("listed %v", all)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 3 {
		t.Errorf("not swept: %v, %v", left, err)
	}
}

func TestFormat(t *testing.T) {
	s := open(t)
	m := create(t, s, machines.Record{Name: "new"})
	path := filepath.Join(m.Dir(), "record.json")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b = []byte(strings.Replace(string(b), `"format": 1`, `"format": 9`, 1))
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get("new"); err == nil || !strings.Contains(err.Error(), "format 9") {
		t.Errorf("a record of the future: %v", err)
	}
}

// holder starts this test binary again to hold a machine's life, with a child of
// its own, and to say a phase.
func holder(t *testing.T, m *machines.Machine, phase machines.Phase) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), "MACHINES_HOLD="+m.Dir(), "MACHINES_PHASE="+string(phase), machines.Variable+"="+m.Dir())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	in, err := cmd.StdinPipe() // It ends with us.
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close() })
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "held\n" {
		t.Fatalf("holder says %q, %v", line, err)
	}
	return cmd
}

func TestMain(m *testing.M) {
	if dir := os.Getenv("MACHINES_HOLD"); dir != "" {
		machines.Hold(dir, machines.Phase(os.Getenv("MACHINES_PHASE")))
	}
	os.Exit(m.Run())
}

// A supervisor that is killed in any phase leaves a machine that is dead, whose
// processes and files Remove ends.
func TestKilledSupervisor(t *testing.T) {
	for _, p := range []machines.Phase{machines.Created, machines.Starting, machines.Running, machines.Stopping, machines.Stopped, machines.Failed} {
		t.Run(string(p), func(t *testing.T) {
			s := open(t)
			m := create(t, s, machines.Record{Name: "dev"})
			h := holder(t, m, p)
			held := map[machines.Phase]machines.Phase{
				machines.Created: machines.Starting, machines.Stopped: machines.Stopping, machines.Failed: machines.Stopping,
			}
			want := cmp.Or(held[p], p)
			if got := phase(t, m); got != want {
				t.Errorf("held: %s, want %s", got, want)
			}
			if err := m.Remove(t.Context()); !errors.Is(err, machines.ErrRunning) {
				t.Errorf("removal of a living one: %v", err)
			}
			ended := make(chan error, 1)
			go func() {
				_, err := m.Await(t.Context())
				ended <- err
			}()
			_ = h.Process.Kill()
			_ = h.Wait()
			if err := <-ended; err != nil {
				t.Errorf("await: %v", err)
			}
			want = machines.Dead
			if p == machines.Created || p == machines.Stopped || p == machines.Failed {
				want = p
			}
			if got := phase(t, m); got != want {
				t.Errorf("killed: %s, want %s", got, want)
			}
			if err := m.Remove(t.Context()); err != nil {
				t.Fatal(err)
			}
			empty(t, s)
		})
	}
}

// A supervisor outlives the process that has started it, and keeps only the descriptors
// that it needs.
func TestLaunchGivesNothingAway(t *testing.T) {
	m := create(t, open(t), machines.Record{Name: "dev"})
	ours, theirs, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = ours.Close(), theirs.Close() }()
	given, err := syscall.Dup(int(theirs.Fd())) // As from a shell: a child would have it.
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Close(given) }()
	script := fmt.Sprintf(`if [ -e /proc/$$/fd/%d ]; then echo '{"error":"it has it"}' >&3; else echo '{}' >&3; fi`, given)
	if _, err := m.Launch(t.Context(), "sh", "-c", script); err != nil {
		t.Error(err)
	}
}

// A supervisor's notes on its machine reach the process that has started it.
func TestLaunchTells(t *testing.T) {
	m := create(t, open(t), machines.Record{Name: "dev"})
	notes, err := m.Launch(t.Context(), "sh", "-c", `echo '{"notes":["slower","less"]}' >&3`)
	if want := []string{"slower", "less"}; err != nil || !slices.Equal(notes, want) {
		t.Errorf("got %q, %v, want %q", notes, err, want)
	}
}

// A file that somebody names as a socket is not taken for one that was left.
func TestSocketThatIsAFile(t *testing.T) {
	precious := filepath.Join(t.TempDir(), "precious")
	if err := os.WriteFile(precious, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	nowhere := machines.Record{Name: "dev", Socket: precious, Config: sandbox.Config{Root: "/nonexistent"}}
	if _, err := create(t, open(t), nowhere).Up(t.Context(), nil); err == nil {
		t.Error("a machine without a root is up")
	}
	if b, err := os.ReadFile(precious); string(b) != "mine" || err != nil {
		t.Errorf("the file: %q, %v", b, err)
	}
}

// A supervisor that does not end is killed, and so are the processes that it leaves.
func TestStrays(t *testing.T) {
	s := open(t)
	m := create(t, s, machines.Record{Name: "dev"})
	stray := exec.Command("sleep", "1000")
	stray.Env = []string{machines.Variable + "=" + m.Dir()}
	if err := stray.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = stray.Wait() // It is killed.
		close(ended)
	}()
	if err := m.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	select {
	case <-ended:
	case <-ctx.Done():
		t.Error("the process lives")
		_ = stray.Process.Kill()
	}
	empty(t, s)
}
