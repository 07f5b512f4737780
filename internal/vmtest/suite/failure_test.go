package suite

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/wire"
)

// A failure is a command that cannot be started (protocol section 8.8).
type failure struct {
	name    string
	argv    []string
	dir     string
	user    string
	env     []string
	tty     bool
	limits  []client.Limit
	kind    wire.FailureKind
	errno   syscall.Errno // 0 is none.
	stage   string        // "" is any.
	message string        // Whole if it does not begin with a colon, else after the quoted command.
}

//holds:wire 8: kind, errno, name and text of every failed start
func failures() (all []behaviour) {
	for _, f := range slices.Concat(missing(), refused(), accountless(), placed()) {
		all = append(all, behaviour{"no start: " + f.name, f.check})
	}
	return all
}

func missing() []failure {
	const text = ": No such file or directory (os error 2)"
	return []failure{
		{name: "missing", argv: []string{"/no/such"}, kind: wire.FailureNotFound, errno: syscall.ENOENT, message: text},
		{name: "not in PATH", argv: []string{"nowhere"}, kind: wire.FailureNotFound, errno: syscall.ENOENT, message: text},
		{name: "empty", argv: []string{""}, kind: wire.FailureNotFound, errno: syscall.ENOENT, message: text},
		{name: "no interpreter", argv: []string{"/t/script"}, kind: wire.FailureNotFound, errno: syscall.ENOENT, message: text},
		{name: "name with quotes", argv: []string{"/a\"b\\c\n"}, kind: wire.FailureNotFound, errno: syscall.ENOENT, message: text},
	}
}

func refused() []failure {
	const denied = ": Permission denied (os error 13)"
	return []failure{
		{name: "directory", argv: []string{"/tmp"}, kind: wire.FailurePermissionDenied, errno: syscall.EACCES, message: denied},
		{name: "not executable", argv: []string{"/t/plain"}, kind: wire.FailurePermissionDenied, errno: syscall.EACCES, message: denied},
		{
			name: "closed to the user", argv: []string{"/private/x"}, user: "nobody",
			kind: wire.FailurePermissionDenied, errno: syscall.EACCES, message: denied,
		},
		{name: "no first line", argv: []string{"/t/noline"}, kind: wire.FailureNotExecutable, errno: syscall.ENOEXEC, message: ": Exec format error (os error 8)"},
		{name: "unknown format", argv: []string{"/t/elf"}, kind: wire.FailureNotExecutable, errno: syscall.ENOEXEC, message: ": Exec format error (os error 8)"},
		{name: "open for writing", argv: []string{"/t/busy"}, kind: wire.FailureNotExecutable, errno: syscall.ETXTBSY, message: ": Text file busy (os error 26)"},
		{name: "below a file", argv: []string{"/etc/passwd/x"}, kind: wire.FailureNotFound, errno: syscall.ENOTDIR, message: ": Not a directory (os error 20)"},
		{name: "below a file on a terminal", argv: []string{"/etc/passwd/x"}, tty: true, kind: wire.FailureNotFound, errno: syscall.ENOTDIR, message: ": Not a directory (os error 20)"},
		{name: "link loop", argv: []string{"/t/loop"}, kind: wire.FailureBadArgs, errno: syscall.ELOOP, message: ": Symbolic link loop (os error 40)"},
		{name: "long name", argv: []string{strings.Repeat("n", 256)}, kind: wire.FailureBadArgs, errno: syscall.ENAMETOOLONG, message: ": Filename too long (os error 36)"},
		{
			name: "huge argument", argv: []string{"true", strings.Repeat("a", 1<<18)},
			kind: wire.FailureBadArgs, errno: syscall.E2BIG, message: ": Argument list too long (os error 7)",
		},
		{
			name: "soft above hard", argv: []string{"true"}, limits: []client.Limit{{Resource: "nofile", Soft: 9, Hard: 8}},
			kind: wire.FailureResourceLimit, errno: syscall.EINVAL, stage: "setrlimit(RLIMIT_NOFILE)", message: ": Invalid argument (os error 22)",
		},
		{name: "NUL in an argument", argv: []string{"true", "a\x00"}, kind: wire.FailureOther, message: ": nul byte found in provided data"},
		{name: "NUL in a variable", argv: []string{"true"}, env: []string{"A=\x00"}, kind: wire.FailureOther, message: ": nul byte found in provided data"},
	}
}

// accountless are those whose user is none, or does not get what is asked for.
func accountless() []failure {
	const impossible = ": Invalid argument (os error 22)"
	all := []failure{
		{name: "impossible user", user: "4294967295", errno: syscall.EINVAL, stage: "setuid", message: impossible},
		{name: "impossible group", user: "0:4294967295", errno: syscall.EINVAL, stage: "setgid", message: impossible},
		{name: "unknown user", user: "bob", stage: "setuid", message: "exec session error: guest user not found: bob"},
		{name: "unknown user on a terminal", user: "bob", tty: true, stage: "setuid", message: "exec session error: guest user not found: bob"},
		{name: "unknown group", user: "alice:staff", stage: "setgid", message: "exec session error: guest group not found: staff"},
		{name: "no user", user: ":devs", stage: "setuid", message: "exec session error: user spec has empty user"},
		{name: "no group", user: "alice:", stage: "setuid", message: "exec session error: user spec has empty group"},
	}
	for i := range all {
		all[i].argv, all[i].kind = []string{"true"}, wire.FailureUserSetup
	}
	soft := []client.Limit{{Resource: "nofile", Soft: 9, Hard: 8}}
	return append(all,
		failure{
			name: "soft above hard on a terminal", argv: []string{"true"}, limits: soft, tty: true,
			kind: wire.FailureResourceLimit, errno: syscall.EINVAL, stage: "setrlimit(RLIMIT_NOFILE)", message: impossible,
		},
	)
}

// placed are those that fail for their directory.
func placed() []failure {
	return []failure{
		{
			name: "missing directory", argv: []string{"true"}, dir: "/no/such", kind: wire.FailureBadCwd, errno: syscall.ENOENT,
			message: `: No such file or directory (os error 2): working directory "/no/such"`,
		},
		{
			name: "file as directory", argv: []string{"true"}, dir: "/t/plain", kind: wire.FailureBadCwd, errno: syscall.ENOTDIR,
			message: `: Not a directory (os error 20): working directory "/t/plain"`,
		},
		{
			name: "missing directory on a terminal", argv: []string{"true"}, dir: "/no/such", tty: true, kind: wire.FailureBadCwd, errno: syscall.ENOENT,
			message: `: No such file or directory (os error 2): working directory "/no/such"`,
		},
	}
}

func (f failure) check(g *guest) error {
	c := g.cmd(f.argv...)
	c.Dir, c.User, c.AddEnv, c.TTY, c.Limits = f.dir, f.user, f.env, f.tty, f.limits
	err := c.Run()
	failed, ok := errors.AsType[*client.StartError](err)
	if !ok {
		return fmt.Errorf("it was started: %w", cmpErr(err))
	}
	if message := f.text(); failed.Kind != client.FailureKind(f.kind) || failed.Errno != f.errno || failed.Message != message {
		return fmt.Errorf("got %s %d %q, want %s %d %q", failed.Kind, int(failed.Errno), failed.Message, f.kind, int(f.errno), message)
	}
	if f.stage != "" && failed.Stage != f.stage {
		return fmt.Errorf("it failed at the stage %q, want %q", failed.Stage, f.stage)
	}
	return nil
}

var errSuccess = errors.New("code 0")

func cmpErr(err error) error {
	if err == nil {
		return errSuccess
	}
	return err
}

func (f failure) text() string {
	if !strings.HasPrefix(f.message, ":") {
		return f.message
	}
	return `spawn "` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(f.argv[0]) + `"` + f.message
}
