package agent_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/agentd-go/agentd/internal/guest/plan"
	"github.com/agentd-go/agentd/internal/nstest"
	"github.com/agentd-go/agentd/wire"
)

func TestExec(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		h := newHost(t, config{commands: plan.Commands{Env: []string{"Z=1", "HOME=/", "PATH=/bin", "A=1"}, Cwd: "/tmp"}})
		for _, tt := range []struct {
			name           string
			req            wire.ExecRequest
			stdout, stderr string
			code           int32
		}{
			{name: "nothing", req: wire.ExecRequest{Cmd: "true"}},
			{name: "code", req: *sh("exit 255"), code: 255},
			{name: "killed", req: *sh("kill -9 $$"), code: -1},
			{name: "terminated", req: *sh("kill $$"), code: -1},
			{name: "both outputs", req: *sh("echo out; echo err >&2"), stdout: "out\n", stderr: "err\n"},
			{name: "arguments as they are", req: wire.ExecRequest{Cmd: "printf", Args: []string{"<%s>", "", "a b", "ü\n"}}, stdout: "<><a b><ü\n>"},
			{name: "default directory", req: wire.ExecRequest{Cmd: "pwd"}, stdout: "/tmp\n"},
			{name: "its directory", req: wire.ExecRequest{Cmd: "pwd", Cwd: new("/etc")}, stdout: "/etc\n"},
			{name: "relative command", req: wire.ExecRequest{Cmd: "./echo", Args: []string{"x"}, Cwd: new("/bin")}, stdout: "x\n"},
			{
				name: "environment sorted", req: wire.ExecRequest{Cmd: "env", Env: []string{"M=2=3", "B=", "novalue", "A=2"}},
				stdout: "A=2\nB=\nHOME=/root\nM=2=3\nPATH=/.msb/scripts:/bin\nZ=1\n",
			},
			{
				name: "its PATH and HOME", req: wire.ExecRequest{Cmd: "/bin/env", Env: []string{"PATH=/p", "HOME=/h"}},
				stdout: "A=1\nHOME=/h\nPATH=/.msb/scripts:/p\nZ=1\n",
			},
			{name: "a daemon does not delay", req: *sh("sleep 1000 >/dev/null 2>&1 </dev/null & echo done"), stdout: "done\n"},
			{name: "limits", req: wire.ExecRequest{Cmd: "sh", Args: []string{"-c", "ulimit -n; ulimit -s"}, Rlimits: []wire.Rlimit{
				{Resource: "NoFile", Soft: 6, Hard: 6}, {Resource: "unheard-of", Soft: 1, Hard: 1}, {Resource: "stack", Soft: 1 << 20, Hard: 1 << 20},
			}}, stdout: "6\n1024\n"},
		} {
			t.Run(tt.name, func(t *testing.T) {
				h.t = t
				r := h.run(&tt.req)
				if r.failed != nil {
					t.Fatalf("failed: %+v", r.failed)
				}
				if string(r.stdout) != tt.stdout || string(r.stderr) != tt.stderr || r.code != tt.code || r.pid == 0 {
					t.Errorf("got %q, %q, code %d, process %d", r.stdout, r.stderr, r.code, r.pid)
				}
			})
		}
	})
}

// The first words of the plan's generation 4: its hosts expect the scripts
// before every PATH, and v 4 on every frame.
func TestGenerationFour(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		h := newHost(t, config{generation: 4, commands: plan.Commands{Env: []string{"PATH=/.msb/scripts:/bin"}}})
		h.send(3, &wire.ExecRequest{Cmd: "/bin/sh", Args: []string{"-c", "echo $PATH"}, Rows: 24, Cols: 80})
		for last := false; !last; {
			f := h.next(3)
			if f.Generation != 4 {
				t.Errorf("%s of generation %d", f.Type, f.Generation)
			}
			if m, ok := f.Message.(*wire.ExecStdout); ok && string(m.Data) != "/.msb/scripts:/.msb/scripts:/bin\n" {
				t.Errorf("PATH is %q", m.Data)
			}
			_, last = f.Message.(*wire.ExecExited)
		}
	})
}

// Much output arrives whole and in order, of both streams and several commands
// at once.
func TestOutputIsComplete(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		h := newHost(t, config{})
		const commands, lines = 4, 300_000
		for id := range uint32(commands) {
			h.send(id+1, sh(fmt.Sprintf("seq %d & seq %d >&2; wait", lines, lines)))
		}
		var want bytes.Buffer
		for i := range lines {
			fmt.Fprintln(&want, i+1)
		}
		for id := range uint32(commands) {
			r := h.collect(id + 1)
			if !bytes.Equal(r.stdout, want.Bytes()) || !bytes.Equal(r.stderr, want.Bytes()) {
				t.Errorf("command %d: %d and %d bytes, want %d each", id, len(r.stdout), len(r.stderr), want.Len())
			}
		}
	})
}

func TestStdin(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		h := newHost(t, config{})
		t.Run("echoed and ended", func(t *testing.T) {
			h.t = t
			h.send(1, &wire.ExecRequest{Cmd: "cat"})
			h.input(1, []byte("one\ntwo"), 3)
			h.send(1, &wire.ExecStdin{Data: []byte("after the end")})
			if r := h.collect(1); string(r.stdout) != "one\ntwo" || r.code != 0 || r.stdinErrors != nil {
				t.Errorf("got %+v", r)
			}
		})
		t.Run("stays open", func(t *testing.T) {
			h.t = t
			h.send(1, sh("read line; echo got $line; cat"))
			h.send(1, &wire.ExecStdin{Data: []byte("first\n")})
			h.next(1) // started
			if m, ok := h.next(1).Message.(*wire.ExecStdout); !ok || string(m.Data) != "got first\n" {
				t.Errorf("got %+v", m)
			}
			h.send(1, &wire.ExecStdin{})
			if _, ok := h.next(1).Message.(*wire.ExecExited); !ok {
				t.Error("no end after the end of the input")
			}
		})
		t.Run("flood into a late reader", func(t *testing.T) {
			h.t = t
			flood := bytes.Repeat([]byte("0123456789abcdef"), 1<<20) // 16 MiB, four times what memory keeps.
			for i := range flood {
				flood[i] ^= byte(i >> 8)
			}
			h.say("mkfifo /tmp/go")
			h.send(1, sh("read go < /tmp/go; sha256sum"))
			h.input(1, flood, 3<<20)
			h.say("echo go > /tmp/go")
			r := h.collect(1)
			if want := fmt.Sprintf("%x  -\n", sha256.Sum256(flood)); string(r.stdout) != want {
				t.Errorf("got %q %q, want %q", r.stdout, r.stderr, want)
			}
		})
		t.Run("a command that closes its input", func(t *testing.T) {
			h.t = t
			h.send(1, sh("exec <&-; echo closed; sleep 1000"))
			waitFor(h, 1, "closed\n")
			h.send(1, &wire.ExecStdin{Data: []byte("x")})
			m, ok := h.next(1).Message.(*wire.ExecStdinError)
			if !ok || m.Errno == nil || *m.Errno != 32 || m.ErrnoName == nil || *m.ErrnoName != "EPIPE" ||
				m.Message != "io error: Broken pipe (os error 32)" {
				t.Errorf("got %+v", m)
			}
			h.send(1, &wire.ExecSignal{Signal: 9})
			if m, ok := h.next(1).Message.(*wire.ExecExited); !ok || m.Code != -1 {
				t.Errorf("got %+v", m)
			}
		})
	})
}

func TestTTY(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		h := newHost(t, config{commands: plan.Commands{Env: []string{"Z=1", "HOME=/", "PATH=/bin", "A=1"}}})
		t.Run("size", func(t *testing.T) {
			h.t = t
			req := tty("stty size; tty")
			req.Rows, req.Cols = 40, 100
			if r := h.run(req); !strings.HasPrefix(string(r.stdout), "40 100\r\n/dev/pts/") || r.code != 0 {
				t.Errorf("got %q, code %d", r.stdout, r.code)
			}
		})
		t.Run("no size", func(t *testing.T) {
			h.t = t
			h.send(5, &wire.ExecRequest{Cmd: "stty", Args: []string{"-a"}, TTY: true})
			// Our stty leaves rows and columns out where there are none.
			if r := h.collect(5); !strings.Contains(string(r.stdout), "speed") || strings.Contains(string(r.stdout), "rows") {
				t.Errorf("got %q", r.stdout)
			}
		})
		t.Run("environment in the order inherited", func(t *testing.T) {
			h.t = t
			req := &wire.ExecRequest{Cmd: "env", TTY: true, Env: []string{"M=1", "A=2", "B=1"}}
			want := "Z=1\r\nHOME=/root\r\nPATH=/.msb/scripts:/bin\r\nA=2\r\nM=1\r\nB=1\r\n"
			if r := h.run(req); string(r.stdout) != want {
				t.Errorf("got %q, want %q", r.stdout, want)
			}
		})
		t.Run("resize before and after the start", func(t *testing.T) {
			h.t = t
			// The first size comes before the trap: otherwise the trap might print after "ready".
			h.send(5, tty(`until [ "$(stty size)" = "10 20" ]; do :; done; trap 'stty size' WINCH; echo ready; while :; do read -t 1 x; done`))
			h.send(5, &wire.ExecResize{Rows: 10, Cols: 20})
			waitFor(h, 5, "ready\r\n")
			h.send(5, &wire.ExecResize{Rows: 40, Cols: 100})
			waitFor(h, 5, "40 100\r\n")
			h.send(5, &wire.ExecSignal{Signal: 9})
			waitExit(h, 5, -1)
		})
		t.Run("input, echo and its end", func(t *testing.T) {
			h.t = t
			h.send(5, tty("cat; echo over"))
			h.send(5, &wire.ExecStdin{}) // Means nothing on a terminal.
			h.send(5, &wire.ExecStdin{Data: []byte("hi\n")})
			waitFor(h, 5, "hi\r\n"+"hi\r\n")
			h.send(5, &wire.ExecStdin{Data: []byte{4}})
			waitFor(h, 5, "over\r\n")
			waitExit(h, 5, 0)
		})
		t.Run("leader's end hangs up", func(t *testing.T) {
			h.t = t
			r := h.run(tty("sleep 1000 & echo done"))
			if string(r.stdout) != "done\r\n" || r.code != 0 {
				t.Errorf("got %q, code %d", r.stdout, r.code)
			}
		})
		t.Run("a full terminal delays nobody", func(t *testing.T) {
			h.t = t
			h.send(5, tty("stty raw; sleep 1000"))
			for range 64 {
				h.send(5, &wire.ExecStdin{Data: bytes.Repeat([]byte("x"), 64<<10)})
			}
			if took := h.ping(); took > patience/4 {
				t.Errorf("a ping took %v", took)
			}
			h.send(5, &wire.ExecSignal{Signal: 9})
			waitExit(h, 5, -1)
		})
	})
}

// waitFor takes output of a command until it ends in what is wanted.
func waitFor(h *host, id uint32, want string) {
	h.t.Helper()
	var got []byte
	for !strings.HasSuffix(string(got), want) {
		switch m := h.next(id).Message.(type) {
		case *wire.ExecStarted:
		case *wire.ExecStdout:
			got = append(got, m.Data...)
		default:
			h.t.Fatalf("%T %+v after %q, want %q", m, m, got, want)
		}
	}
}

// waitExit takes what is left of a command.
func waitExit(h *host, id uint32, code int32) {
	h.t.Helper()
	for {
		if m, ok := h.next(id).Message.(*wire.ExecExited); ok {
			if m.Code != code {
				h.t.Errorf("id %d ended with code %d, want %d", id, m.Code, code)
			}
			return
		}
	}
}

// The table of protocol section 8.3.
func TestUsers(t *testing.T) {
	nstest.Run(t, func() {
		nstest.RequireUsers(t)
		nstest.Root(t)
		h := newHost(t, config{commands: plan.Commands{User: "nobody"}})
		for _, tt := range []struct{ spec, want string }{
			{"", "65534 65534 65534 /"},
			{" ", "65534 65534 65534 /"},
			{"root", "0 0 0 /root"},
			{"0", "0 0 0 /root"},
			{"alice", "1000 1000 1000 2000 /home/alice"},
			{"1000", "1000 1000 1000 2000 /home/alice"},
			{"01000", "1000 1000 1000 2000 /home/alice"},
			{"+1000", "1000 1000 1000 2000 /home/alice"},
			{" alice : devs ", "1000 2000 2000 2000 /home/alice"},
			{"alice:7", "1000 7 7 2000 /home/alice"},
			{"4242", "4242 0 /"}, // No groups at all,
			{"4242:devs", "4242 2000 /"},
		} {
			t.Run(strconv.Quote(tt.spec), func(t *testing.T) {
				h.t = t
				req := sh(`echo $(id -u) $(id -g) $(awk '/^Groups/ {$1 = ""; print}' /proc/self/status) $HOME`)
				req.User = &tt.spec
				r := h.run(req)
				if got := strings.TrimSpace(string(r.stdout)); got != tt.want {
					t.Errorf("got %q %s %+v, want %q", got, r.stderr, r.failed, tt.want)
				}
			})
		}
		named := sh("echo out >/proc/self/fd/1; echo err >/proc/self/fd/2; : </proc/self/fd/0; exit 3")
		named.User = new("alice")
		if r := h.run(named); string(r.stdout) != "out\n" || string(r.stderr) != "err\n" || r.code != 3 {
			t.Errorf("the pipes by their names: %q, %q, code %d", r.stdout, r.stderr, r.code)
		}
		for spec, want := range map[string]string{
			"bob": "guest user not found: bob", "alice:staff": "guest group not found: staff",
			":devs": "user spec has empty user", "alice:": "user spec has empty group",
		} {
			t.Run(strconv.Quote(spec), func(t *testing.T) {
				h.t = t
				f := h.run(&wire.ExecRequest{Cmd: "true", User: &spec}).failed
				if f == nil || f.Kind != wire.FailureUserSetup || f.Errno != nil || f.ErrnoName != nil || f.Stage == nil ||
					f.Message != "exec session error: "+want {
					t.Errorf("got %+v, want %q", f, want)
				}
			})
		}
	})
}

// The input table of protocol section 8.8.
func TestFailures(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		for name, content := range map[string]string{"script": "#!/no/such\n", "plain": "text", "noline": "echo\n", "elf": "\x7fELF"} {
			mode := os.FileMode(0o755)
			if name == "plain" {
				mode = 0o644
			}
			if err := os.WriteFile("/tmp/"+name, []byte(content), mode); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Symlink("loop", "/tmp/loop"); err != nil {
			t.Fatal(err)
		}
		h := newHost(t, config{})
		long := strings.Repeat("n", 256)
		for _, tt := range []struct {
			name    string
			req     wire.ExecRequest
			kind    wire.FailureKind
			errno   int32 // 0 is none.
			code    string
			message string // Behind the command's name.
		}{
			{"missing", wire.ExecRequest{Cmd: "/no/such"}, "not_found", 2, "ENOENT", "No such file or directory (os error 2)"},
			{"not in PATH", wire.ExecRequest{Cmd: "nowhere"}, "not_found", 2, "ENOENT", "No such file or directory (os error 2)"},
			{"empty", wire.ExecRequest{Cmd: ""}, "not_found", 2, "ENOENT", "No such file or directory (os error 2)"},
			{"no interpreter", wire.ExecRequest{Cmd: "/tmp/script"}, "not_found", 2, "ENOENT", "No such file or directory (os error 2)"},
			{"directory", wire.ExecRequest{Cmd: "/tmp"}, "permission_denied", 13, "EACCES", "Permission denied (os error 13)"},
			{"not executable", wire.ExecRequest{Cmd: "/tmp/plain"}, "permission_denied", 13, "EACCES", "Permission denied (os error 13)"},
			{"no first line", wire.ExecRequest{Cmd: "/tmp/noline"}, "not_executable", 8, "ENOEXEC", "Exec format error (os error 8)"},
			{"unknown format", wire.ExecRequest{Cmd: "/tmp/elf"}, "not_executable", 8, "ENOEXEC", "Exec format error (os error 8)"},
			{"below a file", wire.ExecRequest{Cmd: "/etc/passwd/x"}, "not_found", 20, "ENOTDIR", "Not a directory (os error 20)"},
			{"link loop", wire.ExecRequest{Cmd: "/tmp/loop"}, "bad_args", 40, "ELOOP", "Symbolic link loop (os error 40)"},
			{"long name", wire.ExecRequest{Cmd: long}, "bad_args", 36, "ENAMETOOLONG", "Filename too long (os error 36)"},
			{
				"huge argument",
				wire.ExecRequest{Cmd: "true", Args: []string{strings.Repeat("a", 1<<18)}},
				"bad_args", 7, "E2BIG", "Argument list too long (os error 7)",
			},
			{
				"soft above hard",
				wire.ExecRequest{Cmd: "true", Rlimits: []wire.Rlimit{{Resource: "nofile", Soft: 9, Hard: 8}}},
				"resource_limit", 22, "EINVAL", "Invalid argument (os error 22)",
			},
			{"the impossible group", wire.ExecRequest{Cmd: "true", User: new("0:4294967295")}, "user_setup_failed", 22, "EINVAL", "Invalid argument (os error 22)"},
			{"the impossible user", wire.ExecRequest{Cmd: "true", User: new("4294967295")}, "user_setup_failed", 22, "EINVAL", "Invalid argument (os error 22)"},
			{"NUL in an argument", wire.ExecRequest{Cmd: "true", Args: []string{"a\x00"}}, "other", 0, "", "nul byte found in provided data"},
			{"NUL in a variable", wire.ExecRequest{Cmd: "true", Env: []string{"A=\x00"}}, "other", 0, "", "nul byte found in provided data"},
			{"NUL in the directory", wire.ExecRequest{Cmd: "true", Cwd: new("/\x00")}, "other", 0, "", "nul byte found in provided data"},
			{"name with quotes", wire.ExecRequest{Cmd: "/a\"b\\c\n\x01"}, "not_found", 2, "ENOENT", "No such file or directory (os error 2)"},
			// Better than the reference agents, which say not_found.
			{
				"missing directory",
				wire.ExecRequest{Cmd: "true", Cwd: new("/no/such")},
				"bad_cwd", 2, "ENOENT", `No such file or directory (os error 2): working directory "/no/such"`,
			},
			{
				"no directory",
				wire.ExecRequest{Cmd: "true", Cwd: new("")},
				"bad_cwd", 2, "ENOENT", `No such file or directory (os error 2): working directory ""`,
			},
			{
				"file as directory",
				wire.ExecRequest{Cmd: "true", Cwd: new("/tmp/plain")},
				"bad_cwd", 20, "ENOTDIR", `Not a directory (os error 20): working directory "/tmp/plain"`,
			},
		} {
			for _, onTerminal := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s tty=%t", tt.name, onTerminal), func(t *testing.T) {
					if tt.req.User != nil {
						nstest.RequireUsers(t)
					}
					h.t = t
					req := tt.req
					req.TTY = onTerminal
					f := h.run(&req).failed
					if f == nil {
						t.Fatal("it was started")
					}
					name := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\x01", `\u{1}`).Replace(req.Cmd)
					if want := `spawn "` + name + `": ` + tt.message; f.Message != want || f.Kind != tt.kind {
						t.Errorf("got %s %q, want %s %q", f.Kind, f.Message, tt.kind, want)
					}
					if got := deref(f.Errno); got != tt.errno || deref(f.ErrnoName) != tt.code || (f.Errno == nil) != (tt.errno == 0) {
						t.Errorf("got number %d %s, want %d %s", got, deref(f.ErrnoName), tt.errno, tt.code)
					}
					if f.Stage == nil || *f.Stage == "" {
						t.Error("no stage")
					}
				})
			}
		}
	})
}

func deref[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

func TestSignals(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		h := newHost(t, config{})
		t.Run("reach the group", func(t *testing.T) {
			h.t = t
			h.send(1, sh("sleep 1000 & sleep 1000 & wait"))
			h.send(1, &wire.ExecSignal{Signal: 9})
			if r := h.collect(1); r.code != -1 {
				t.Errorf("code %d", r.code)
			}
		})
		t.Run("reach the group after the leader's end", func(t *testing.T) {
			h.t = t
			h.send(1, sh("sleep 1000 & exit 4"))
			m, ok := h.next(1).Message.(*wire.ExecStarted)
			if !ok {
				t.Fatal("it was not started")
			}
			waitGone(t, int(m.PID))
			h.send(1, &wire.ExecSignal{Signal: 15})
			waitExit(h, 1, 4)
		})
		t.Run("are delivered", func(t *testing.T) {
			h.t = t
			h.send(1, sh("trap 'echo usr1; exit 5' USR1; echo ready; while :; do read -t 1 x </dev/zero; done"))
			waitFor(h, 1, "ready\n")
			h.send(1, &wire.ExecSignal{Signal: 10})
			waitFor(h, 1, "usr1\n")
			waitExit(h, 1, 5)
		})
		t.Run("of other numbers are nothing", func(t *testing.T) {
			h.t = t
			h.send(1, sh("echo ready; read x; exit 6"))
			waitFor(h, 1, "ready\n")
			for _, number := range []int32{0, -1, -9, 32, 33, 34, 64, 65, 1 << 30, -1 << 31} {
				h.send(1, &wire.ExecSignal{Signal: number})
			}
			h.ping()
			h.send(1, &wire.ExecStdin{Data: []byte("\n")})
			waitExit(h, 1, 6)
		})
		t.Run("to unknown ids are nothing", func(t *testing.T) {
			h.t = t
			for _, id := range []uint32{0, 1, 0x02000000, 1<<32 - 1} {
				h.send(id, &wire.ExecSignal{Signal: 9})
				h.send(id, &wire.ExecResize{Rows: 1, Cols: 1})
				h.send(id, &wire.ExecStdin{Data: []byte("x")})
			}
			h.ping()
			if n := h.kept(0, 1<<32-1); n != 0 {
				t.Errorf("%d answers", n)
			}
		})
	})
}
