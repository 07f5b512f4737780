package boots

import (
	"strings"
	"testing"

	"github.com/agentd-go/agentd/internal/vmtest"
	"github.com/agentd-go/agentd/sandbox"
	"github.com/agentd-go/agentd/wire"
)

// A system call of the agent fails, and the machine ends with the step named.
func TestFaults(t *testing.T) {
	eachKernel(t, func(t *testing.T, kernel string) {
		t.Helper()
		for _, tt := range []struct{ call, want string }{
			{"sethostname:1", "init failed: step hostname: set host name \"box\": input/output error"},
		} {
			t.Run(tt.call, func(t *testing.T) {
				failed := refused(t, sandbox.Config{
					Kernel: kernel, Agent: vmtest.FaultyAgent(t), ExtraWords: []string{"AGENTD_FAULT=" + tt.call},
					Bootstrap: &wire.Bootstrap{Hostname: new("box")},
				})
				if failed.Reason != tt.want || !strings.Contains(failed.Console, "agentd: "+tt.want) {
					t.Errorf("%v", failed)
				}
				t.Log(failed.Reason, failed.Failure)
			})
		}
	})
}
