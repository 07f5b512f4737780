package main

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/internal/image"
	"github.com/agentd-go/agentd/internal/machines"
	"github.com/agentd-go/agentd/sandbox"
)

func TestExitStatus(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  error
		want int
		text string
	}{
		{"success", commandError(nil), 0, ""},
		{"signal", commandError(&client.ExitError{Signaled: true, Signal: 9}), 137, "signal 9"},
		{"signal without a number", commandError(&client.ExitError{Signaled: true}), 128, "signal"},
		{"not found", machines.StartError("nope", &client.StartError{Path: "nope", Kind: client.FailureNotFound, Errno: syscall.ENOENT, Message: `spawn "nope": No such file or directory (os error 2)`}), 127, "nope: No such file"},
		{"not permitted", machines.StartError("/etc", &client.StartError{Path: "/etc", Kind: client.FailurePermissionDenied, Errno: syscall.EACCES, Message: `spawn "/etc": Permission denied (os error 13)`}), 126, "/etc: Permission denied"},
		{"not executable", machines.StartError("x", &client.StartError{Path: "x", Kind: client.FailureNotExecutable, Errno: syscall.ENOEXEC, Message: `spawn "x": Exec format error (os error 8)`}), 126, "x: Exec format"},
		{"bad directory", machines.StartError("x", &client.StartError{Path: "x", Kind: client.FailureBadCwd, Errno: syscall.ENOENT, Message: "no such directory"}), 125, "no such directory"},
		{"our own", errors.New("no kernel"), 125, "no kernel"},
		{"timeout", errTimeout, 124, "--timeout"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := status(tt.err, false); got != tt.want {
				t.Errorf("status %d, want %d", got, tt.want)
			}
			if tt.err != nil && !strings.Contains(tt.err.Error(), tt.text) {
				t.Errorf("text %q lacks %q", tt.err, tt.text)
			}
		})
	}
}

func TestEndedPrefersTheCause(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	failed := errors.New("link ended")
	if err := ended(ctx, failed); !errors.Is(err, failed) {
		t.Errorf("before the end: %v", err)
	}
	cancel(errTimeout)
	if err := ended(ctx, failed); !errors.Is(err, errTimeout) {
		t.Errorf("after it: %v", err)
	}
	if err := ended(ctx, nil); err != nil {
		t.Errorf("a success is no failure: %v", err)
	}
}

// A first ^C goes to the command, a second one ends the machine; before there is
// a command, the first does.
func TestSignals(t *testing.T) {
	var sent []syscall.Signal
	var cause error
	s := &signals{cancel: func(err error) { cause = err }}
	s.to(func(n syscall.Signal) { sent = append(sent, n) })
	s.handle(syscall.SIGHUP)
	s.handle(syscall.SIGINT)
	if want := []syscall.Signal{1, 2}; !slices.Equal(sent, want) || cause != nil {
		t.Errorf("delivered %v (want %v), cause %v", sent, want, cause)
	}
	s.handle(syscall.SIGINT)
	if status(cause, false) != 130 || len(sent) != 2 {
		t.Errorf("second ^C: delivered %v, cause %v", sent, cause)
	}
	cause = nil
	early := &signals{cancel: func(err error) { cause = err }}
	early.handle(syscall.SIGTERM)
	if status(cause, false) != 143 {
		t.Errorf("SIGTERM before the command: %v", cause)
	}
}

func TestMachineFlags(t *testing.T) {
	t.Setenv(machines.StateVariable, t.TempDir())
	for _, tt := range []struct{ args, want string }{
		{"--cpus 0 -- true", `--cpus "0": want a whole number from 1`},
		{"--memory nonsense -- true", `--memory "nonsense"`},
		{"--configure-by magic -- true", "--configure-by magic"},
		{"--accel magic -- true", `accelerator "magic"`},
		{"--root /nonexistent -- true", "/nonexistent"},
		{"--env =x -- true", `--env "=x"`},
		{"", "no command"},
		{"--no-such-flag", "--no-such-flag"},
	} {
		root := newRoot()
		root.SetArgs(append([]string{"run"}, strings.Fields(tt.args)...))
		if err := root.Execute(); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("run %s: %v, want an error with %q", tt.args, err, tt.want)
		}
	}
}

// An image without a command is a machine that stays, where it can.
func TestImageWithoutCommand(t *testing.T) {
	t.Setenv(image.CacheVariable, t.TempDir())
	for _, detach := range []bool{false, true} {
		r := &runner{detach: detach}
		r.Image = t.TempDir()
		if command, err := r.ownCommand(t.Context(), nil); (err == nil) != detach || len(command) > 0 {
			t.Errorf("detached %v: command %q, %v", detach, command, err)
		}
	}
}

func TestConfigFromFlags(t *testing.T) {
	f := &machineFlags{memory: "1g", by: "environment", network: "none", profile: "restricted"}
	f.CPUs = 2
	cfg, err := f.config()
	if err != nil {
		t.Fatal(err)
	}
	if cfg.CPUs != 2 || cfg.MemoryMiB != 1024 || cfg.Configuration != sandbox.ByEnvironment || !cfg.Restricted {
		t.Errorf("got %+v", cfg)
	}
}

// What waits for standard input ends with its context.
func TestStandardInput(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	old := os.Stdin
	os.Stdin = r
	defer func() { os.Stdin = old }()
	ctx, cancel := context.WithCancel(t.Context())
	in := standardInput(ctx)
	if _, err := w.WriteString("hello"); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 5)
	if _, err := io.ReadFull(in, b); string(b) != "hello" || err != nil {
		t.Errorf("read %q, %v", b, err)
	}
	cancel()
	if _, err := in.Read(b); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of the context: %v", err)
	}
	if err := w.Close(); err != nil { // Ends the Read that was left behind.
		t.Error(err)
	}
}

// What a guest says in an error does not reach the terminal as more than text.
func TestLegible(t *testing.T) {
	for in, want := range map[string]string{
		"open /tmp/\x1b]0;title\a: no":  "open /tmp/?]0;title?: no",
		"end of the console:\r\n\tline": "end of the console:\n\tline",
		"\u009b31m and \u202egnp.exe":   "?31m and ?gnp.exe",
		"grüße, 世界":                     "grüße, 世界",
	} {
		if got := legible(in); got != want {
			t.Errorf("legible(%q) = %q, want %q", in, got, want)
		}
	}
}
