package proc_test

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/agentd-go/agentd/internal/guest/proc"
	"github.com/agentd-go/agentd/internal/nstest"
)

// write makes a file of the test root.
func write(t *testing.T, name, content string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(name, mode); err != nil { // The umask has taken its part.
		t.Fatal(err)
	}
}

func mkdir(t *testing.T, name string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(name, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(name, mode); err != nil {
		t.Fatal(err)
	}
}

func symlink(t *testing.T, target, name string) {
	t.Helper()
	if err := os.Symlink(target, name); err != nil {
		t.Fatal(err)
	}
}

// startable fills /t with what can and cannot be started.
func startable(t *testing.T) {
	t.Helper()
	for _, dir := range []string{"/t/first", "/t/second", "/t/first/dir"} {
		mkdir(t, dir, 0o755)
	}
	write(t, "/t/plain", "text", 0o644)
	write(t, "/t/script", "#!/bin/sh\necho script\n", 0o755)
	write(t, "/t/no-line", "echo hi\n", 0o755)
	write(t, "/t/garbage", "\x7fELF garbage", 0o755)
	write(t, "/t/no-interpreter", "#!/no/such\n", 0o755)
	write(t, "/t/first/both", "text", 0o644)
	write(t, "/t/second/both", "#!/bin/sh\necho second\n", 0o755)
	write(t, "/t/first/denied", "text", 0o644)
	write(t, "/t/second/here", "#!/bin/sh\necho here $0\n", 0o755)
	symlink(t, "/t/loop", "/t/loop")
	symlink(t, "/t/first/turn", "/t/first/turn")
}

// failures are all reasons not to start, with the stage and the number.
func failures() []failure {
	long := strings.Repeat("n", 256) // One more than NAME_MAX.
	huge := strings.Repeat("a", 1<<18)
	limited := func(resource int, soft, hard uint64) proc.Spec {
		return proc.Spec{Name: "/bin/true", Limits: []proc.Limit{{Resource: resource, Soft: soft, Hard: hard}}}
	}
	return []failure{
		{"missing", proc.Spec{Name: "/no/such"}, proc.StageExec, syscall.ENOENT},
		{"empty", proc.Spec{Name: ""}, proc.StageExec, syscall.ENOENT},
		{"not in path", proc.Spec{Name: "nowhere"}, proc.StageExec, syscall.ENOENT},
		{"directory", proc.Spec{Name: "/t"}, proc.StageExec, syscall.EACCES},
		{"not executable", proc.Spec{Name: "/t/plain"}, proc.StageExec, syscall.EACCES},
		{"not executable in path", proc.Spec{Name: "denied"}, proc.StageExec, syscall.EACCES},
		{"directory in path", proc.Spec{Name: "dir"}, proc.StageExec, syscall.EACCES},
		{"no interpreter", proc.Spec{Name: "/t/no-interpreter"}, proc.StageExec, syscall.ENOENT},
		{"no first line", proc.Spec{Name: "/t/no-line"}, proc.StageExec, syscall.ENOEXEC},
		{"unknown format", proc.Spec{Name: "/t/garbage"}, proc.StageExec, syscall.ENOEXEC},
		{"below a file", proc.Spec{Name: "/t/plain/x"}, proc.StageExec, syscall.ENOTDIR},
		{"link loop", proc.Spec{Name: "/t/loop"}, proc.StageExec, syscall.ELOOP},
		{"link loop in path", proc.Spec{Name: "turn"}, proc.StageExec, syscall.ELOOP},
		{"long name", proc.Spec{Name: long}, proc.StageExec, syscall.ENAMETOOLONG},
		{"long component", proc.Spec{Name: "/t/" + long}, proc.StageExec, syscall.ENAMETOOLONG},
		{"long path", proc.Spec{Name: strings.Repeat("/n", 2100)}, proc.StageExec, syscall.ENAMETOOLONG},
		{"huge argument", proc.Spec{Name: "/bin/true", Argv: []string{"true", huge}}, proc.StageExec, syscall.E2BIG},
		{"huge variable", proc.Spec{Name: "/bin/true", Env: []string{"A=" + huge}}, proc.StageExec, syscall.E2BIG},
		{"missing directory", proc.Spec{Name: "/bin/true", Dir: "/no/such"}, proc.StageDirectory, syscall.ENOENT},
		{"file as directory", proc.Spec{Name: "/bin/true", Dir: "/t/plain"}, proc.StageDirectory, syscall.ENOTDIR},
		{"link loop as directory", proc.Spec{Name: "/bin/true", Dir: "/t/loop"}, proc.StageDirectory, syscall.ELOOP},
		{"soft above hard", limited(nofile, 9, 8), proc.StageLimits, syscall.EINVAL},
		{"no such resource", limited(99, 9, 9), proc.StageLimits, syscall.EINVAL},
	}
}

type failure struct {
	name  string
	spec  proc.Spec
	stage proc.Stage
	errno syscall.Errno
}

// check starts the command of f, with one more limit if it shall go by the launcher.
func (f failure) check(t *testing.T, table *proc.Table, limits []proc.Limit) {
	t.Helper()
	s := f.spec
	if s.Argv == nil {
		s.Argv = []string{"argv0"}
	}
	// A file is no directory, and one that may not be executed is passed over.
	s.Env = append([]string{"PATH=/t/missing:/t/plain:/t/first:/t/second:/bin"}, s.Env...)
	s.Limits = append(limits, s.Limits...)
	_, err := start(t, table, &s)
	var failed *proc.StartError
	if !errors.As(err, &failed) || failed.Stage != f.stage || !errors.Is(err, f.errno) {
		t.Errorf("got %v, want stage %s and %v", err, f.stage, f.errno)
	}
}

// Every failure is the same whether the command is started directly or by the
// launcher.
func TestStartFailures(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		startable(t)
		table := newTable(t, proc.Options{})
		for _, f := range failures() {
			t.Run(f.name, func(t *testing.T) { f.check(t, table, nil) })
			t.Run(f.name+" by launcher", func(t *testing.T) { f.check(t, table, []proc.Limit{{Resource: core}}) })
		}
	})
}

func TestSearch(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		startable(t)
		table := newTable(t, proc.Options{})
		for _, tt := range []struct{ name, cmd, path, dir, want string }{
			{"a path", "/t/script", "", "/", "script\n"},
			{"a path from the directory", "./script", "", "/t", "script\n"},
			{"a path below the directory", "second/here", "/bin", "/t", "here second/here\n"},
			{"the first that may be executed", "both", "/t/first:/t/second", "/", "second\n"},
			{"past files and missing directories", "here", "/t/plain:/no/such:/t/second", "/", "here /t/second/here\n"},
			{"a trailing slash", "here", "/t/second/", "/", "here /t/second/here\n"},
			{"an empty element is the directory", "script", "/no/such:", "/t", "script\n"},
			{"an empty element in the middle", "script", "/no/such::/bin", "/t", "script\n"},
			{"an empty path is the directory", "script", "", "/t", "script\n"},
			{"a relative element", "here", "second", "/t", "here second/here\n"},
			{"a directory of that name", "true", "/t/first:/bin", "/", ""},
		} {
			for way, limits := range map[string][]proc.Limit{"direct": nil, "by launcher": {{Resource: core}}} {
				t.Run(tt.name+" "+way, func(t *testing.T) {
					s := &proc.Spec{
						Name: tt.cmd, Argv: []string{tt.cmd}, Env: []string{"PATH=" + tt.path}, Dir: tt.dir, Limits: limits,
					}
					if got := output(t, table, s); got != tt.want {
						t.Errorf("got %q, want %q", got, tt.want)
					}
				})
			}
		}
	})
}
