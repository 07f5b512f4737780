package proc_test

import (
	"errors"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/agentd-go/agentd/internal/guest/proc"
	"github.com/agentd-go/agentd/internal/guest/sys"
)

// TestMain lets the test binary be the launcher, as agentd's main does.
func TestMain(m *testing.M) {
	if os.Args[0] == proc.LauncherName {
		os.Exit(proc.Launch(os.Args))
	}
	os.Exit(m.Run())
}

// patience is how long anything may take before a test gives it up.
const patience = 20 * time.Second

// newTable is the one table of this process.
func newTable(t *testing.T, o proc.Options) *proc.Table {
	t.Helper()
	table, err := proc.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(table.Close)
	return table
}

// shell is a command line for the shell of the test root.
func shell(script string) *proc.Spec {
	return &proc.Spec{Name: "/bin/sh", Argv: []string{"sh", "-c", script}, Env: []string{"PATH=/bin"}, Dir: "/"}
}

// run is a started command whose output is collected.
type run struct {
	*proc.Child
	out chan string
}

// start starts s with /dev/null as input and its output in a pipe.
func start(t *testing.T, table *proc.Table, s *proc.Spec) (*run, error) {
	t.Helper()
	null, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs, err := sys.ReadPipe()
	if err != nil {
		t.Fatal(err)
	}
	s.Stdio = [3]proc.Descriptor{null, theirs, theirs}
	child, err := table.Start(s)
	if closed := errors.Join(null.Close(), theirs.Close()); closed != nil {
		t.Error(closed)
	}
	if err != nil {
		return nil, errors.Join(err, ours.Close())
	}
	r := &run{child, make(chan string, 1)}
	go func() {
		b, err := io.ReadAll(ours)
		if err := errors.Join(err, ours.Close()); err != nil {
			t.Error(err)
		}
		r.out <- string(b)
	}()
	return r, nil
}

func mustStart(t *testing.T, table *proc.Table, s *proc.Spec) *run {
	t.Helper()
	r, err := start(t, table, s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// end waits for the command's end and gives its output.
func (r *run) end(t *testing.T) (string, proc.Status) {
	t.Helper()
	wait(t, r.Done(), "the end of the command")
	select {
	case out := <-r.out:
		return out, r.Status()
	case <-time.After(patience):
		t.Fatal("the output did not end")
		return "", proc.Status{}
	}
}

// output runs s, which must end with code 0.
func output(t *testing.T, table *proc.Table, s *proc.Spec) string {
	t.Helper()
	r := mustStart(t, table, s)
	out, status := r.end(t)
	r.Release()
	if status != (proc.Status{}) {
		t.Fatalf("%q ended with %+v: %s", s.Argv, status, out)
	}
	return out
}

func wait(t *testing.T, done <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatalf("%s did not come", what)
	}
}

// eventually waits until a condition holds that nothing announces.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	late := time.After(patience)
	for !holds() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("never: %s", what)
		}
	}
}

// processes are the states of all processes of the namespace but ours, by
// process id.
func processes(t *testing.T) map[string]string {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, e := range entries {
		if name := e.Name(); name[0] >= '0' && name[0] <= '9' && name != "1" {
			if state, ok := field("/proc/"+name+"/status", "State:"); ok {
				all[name] = state
			}
		}
	}
	return all
}

// field is the value of one line of a status file; false when the process has
// gone.
func field(file, key string) (string, bool) {
	b, err := os.ReadFile(file)
	if err != nil {
		return "", false
	}
	for line := range strings.Lines(string(b)) {
		if value, ok := strings.CutPrefix(line, key); ok {
			return strings.TrimSpace(value), true
		}
	}
	return "", false
}

// credential is a user that no account file needs to know.
func credential(uid uint32) *syscall.Credential { return &syscall.Credential{Uid: uid, Gid: uid} }
