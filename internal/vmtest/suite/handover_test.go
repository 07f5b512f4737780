package suite

import (
	"testing"
	"time"

	"github.com/agentd-go/agentd/internal/vmtest"
	"github.com/agentd-go/agentd/sandbox"
)

func TestHandoverProbe(t *testing.T) {
	for _, kernel := range vmtest.Kernels(t) {
		t.Run(kernel, func(t *testing.T) {
			start := time.Now()
			m := vmtest.Start(t, sandbox.Config{
				Kernel: kernel, Root: vmtest.DebianRoot(t), Init: "auto", MemoryMiB: 512, Debug: []string{"boot"},
			})
			t.Logf("ready after %v", time.Since(start))
			g := in(t, m)
			for _, s := range []string{
				"cat /proc/1/comm; readlink /proc/1/exe; ls -l /proc/1/fd; cat /proc/1/limits | head -12; grep Sig /proc/1/status",
				"cat /proc/self/cgroup /proc/1/cgroup; ps 2>/dev/null; cat /proc/$PPID/stat /proc/$PPID/oom_score_adj; cat /proc/self/oom_score_adj; ls -l /proc/$PPID/fd",
				"for i in $(seq 100); do s=$(systemctl is-system-running); case $s in running|degraded) break;; esac; sleep .3; done; echo $s; systemctl --failed; cat /proc/uptime; systemctl list-units --type=service --no-pager",
			} {
				out, err := g.say(s)
				t.Log(out, err)
			}
			t.Logf("all after %v", time.Since(start))
			end(t, m)
			t.Logf("%s", m.Console())
		})
	}
}
