package suite

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/agentd-go/agentd/internal/hooks"
	"github.com/agentd-go/agentd/internal/vmtest"
	"github.com/agentd-go/agentd/sandbox"
	"github.com/agentd-go/agentd/wire"
)

// refusalDeadline is far below every deadline of the boot: a machine that is
// refused must not wait for anything.
const refusalDeadline = 30 * time.Second

// A refusal is a boot that ends before it has done anything.
type refusal struct {
	name   string
	words  []string
	sent   *wire.Bootstrap
	reason string // With the phase, the field, the value and the rule.
}

// byEnvironment is boot section 4.
var byEnvironment = []refusal{
	{"root without a kind", []string{"MSB_BLOCK_ROOT=device=/dev/vda"}, nil, `config parse failed: MSB_BLOCK_ROOT: "device=/dev/vda": `},
	{"directory without a path", []string{"MSB_DIR_MOUNTS=data"}, nil, `config parse failed: MSB_DIR_MOUNTS: "data": `},
	{"directory with a relative path", []string{"MSB_DIR_MOUNTS=data:x"}, nil, `config parse failed: MSB_DIR_MOUNTS: "data:x": `},
	{"mount option", []string{"MSB_TMPFS=/x:sync"}, nil, `config parse failed: MSB_TMPFS: "/x:sync": `},
	{"profile", []string{"MSB_SECURITY_PROFILE=strict"}, nil, `config parse failed: MSB_SECURITY_PROFILE: "strict": `},
	{"limit", []string{"MSB_RLIMITS=nofile=8:4"}, nil, `config parse failed: MSB_RLIMITS: "nofile=8:4": `},
	{"unknown limit", []string{"MSB_RLIMITS=files=8"}, nil, `config parse failed: MSB_RLIMITS: "files=8": `},
	{"network address", []string{"MSB_NET=iface=eth0,mac=02:00:00:00:00"}, nil, `config parse failed: MSB_NET: "mac=02:00:00:00:00": `},
	{"init", []string{"MSB_HANDOFF_INIT=sbin/init"}, nil, `config parse failed: MSB_HANDOFF_INIT: "sbin/init": `},
}

// byBootstrap is boot section 5.
var byBootstrap = []refusal{
	{"empty hostname", nil, &wire.Bootstrap{Hostname: new("")}, `bootstrap validation failed: hostname: "": `},
	{"relative tmpfs", nil, &wire.Bootstrap{TmpfsMounts: []wire.TmpfsMount{{Path: "x"}}}, `bootstrap validation failed: tmpfs_mounts[0].path: "x": `},
	{"limit", nil, &wire.Bootstrap{Rlimits: []wire.Rlimit{{Resource: "nofile", Soft: 8, Hard: 4}}}, `bootstrap validation failed: rlimits[0]: `},
	{"variable", nil, &wire.Bootstrap{DefaultEnv: []wire.EnvVar{{Key: "A=B", Value: "1"}}}, `bootstrap validation failed: default_env[0].key: "A=B": `},
	{"one target twice", nil, tmpfs("/a", "/b", "/a/"), `bootstrap validation failed: tmpfs_mounts[2].path: "/a/": `},
	{"target with dots", nil, tmpfs("/a/../b"), `bootstrap validation failed: tmpfs_mounts[0].path: "/a/../b": `},
	{"the root as a target", nil, tmpfs("/a", "/"), `bootstrap validation failed: tmpfs_mounts[1].path: "/": `},
	{"file above a target", nil, &wire.Bootstrap{
		FileMounts: []wire.FileMount{{Tag: "t", Filename: "f", GuestPath: "/a"}}, TmpfsMounts: []wire.TmpfsMount{{Path: "/a/b"}},
	}, `bootstrap validation failed: file_mounts[0].guest_path: "/a": `},
	{"10,000 mounts", nil, tmpfs(numbered(10000)...), `bootstrap validation failed: tmpfs_mounts[4096].path: "/4096": `},
	{"relative init", nil, &wire.Bootstrap{HandoffInit: &wire.HandoffInit{Cmd: "sbin/init"}}, `bootstrap validation failed: handoff_init.cmd: "sbin/init": `},
}

func tmpfs(paths ...string) *wire.Bootstrap {
	b := &wire.Bootstrap{}
	for _, path := range paths {
		b.TmpfsMounts = append(b.TmpfsMounts, wire.TmpfsMount{Path: path})
	}
	return b
}

func numbered(n int) (paths []string) {
	for i := range n {
		paths = append(paths, "/"+strconv.Itoa(i))
	}
	return paths
}

//holds:boot 4: each rejected form ends the boot before its first step, with its phase on the console
//holds:boot 14: one path twice, a file above a mount, `..`, `/`: end the boot before any mount
func TestRefusals(t *testing.T) {
	ownOnly(t, "its words are its own")
	eachKernel(t, func(t *testing.T, kernel string) {
		t.Helper()
		all := slices.Concat(byEnvironment, byBootstrap)
		if !strings.HasPrefix(kernel, "krunfw-") {
			all = []refusal{byEnvironment[4], byBootstrap[0]} // The rest is the same, and slower.
		}
		for _, r := range all {
			source := "environment"
			if r.sent != nil {
				source = "bootstrap"
			}
			t.Run(source+" "+r.name, func(t *testing.T) { r.check(t, kernel) })
		}
	})
}

func (r refusal) check(t *testing.T, kernel string) {
	t.Helper()
	cfg := hooks.With(sandbox.Config{Kernel: kernel, Debug: []string{"boot"}}, hooks.Machine{ExtraWords: r.words, Bootstrap: r.sent})
	if r.sent == nil {
		cfg.Configuration = sandbox.ByEnvironment
		hooks.Of(&cfg).Bootstrap = new(wire.Bootstrap) // The host leaves the words to the agent, whose refusal this is.
	}
	start := time.Now()
	m, err := sandbox.Start(t.Context(), vmtest.Config(t, cfg))
	if err == nil {
		t.Fatal(errors.Join(errors.New("it was not refused"), m.Kill()))
	}
	if took := time.Since(start); took > refusalDeadline {
		t.Errorf("it took %v", took)
	}
	failed, ok := errors.AsType[*sandbox.BootError](err)
	if !ok {
		t.Fatalf("got %v", err)
	}
	rule, found := strings.CutPrefix(failed.Reason, r.reason)
	if !found || strings.TrimSpace(rule) == "" {
		t.Errorf("reason %q, want %q and a rule", failed.Reason, r.reason)
	}
	for _, line := range []string{"agentd: step ", "Kernel panic"} {
		if strings.Contains(failed.Console, line) {
			t.Errorf("the console has %q:\n%s", line, failed.Console)
		}
	}
	if !strings.Contains(failed.Err.Error(), "the machine ended") {
		t.Errorf("it did not end by itself: %v", failed.Err)
	}
	t.Log(failed.Reason)
}
