package sandbox_test

import (
	"strings"
	"testing"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/sandbox"
)

// What the agent would refuse is refused here, with the same words and without a boot.
func TestCheckFindsWhatTheAgentRefuses(t *testing.T) {
	dir := t.TempDir()
	for want, cfg := range map[string]sandbox.Config{
		`rlimits[0]: "foo"`:                   {Limits: []client.Limit{{Resource: "foo", Soft: 1, Hard: 1}}},
		`rlimits[1]: "NOFILE"`:                {Limits: []client.Limit{{Resource: "nofile", Soft: 1, Hard: 1}, {Resource: "NOFILE", Soft: 1, Hard: 1}}},
		`hostname: "a\nb"`:                    {Hostname: "a\nb"},
		`user: ":"`:                           {User: ":"},
		`tmpfs_mounts[0].path: "/proc/x"`:     {Tmpfs: []sandbox.Tmpfs{{Target: "/proc/x"}}},
		`dir_mounts[0].guest_path: "/a/../b"`: {Mounts: []sandbox.Mount{{Source: dir, Target: "/a/../b"}}},
		`handoff_init.cmd: "--"`:              {Init: "--"},
		`"/x/": must`:                         {Tmpfs: []sandbox.Tmpfs{{Target: "/x"}, {Target: "/x/"}}},
		`MSB_USER: ":"`:                       {User: ":", Configuration: sandbox.ByEnvironment},
		`MiB of memory: this host has `:       {MemoryMiB: 1 << 40},
	} {
		if err := cfg.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want an error with %s", err, want)
		}
	}
	if err := (sandbox.Config{}).Check(); err != nil {
		t.Error(err)
	}
}
