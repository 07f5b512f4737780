package sandbox_test

import (
	"bufio"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/agentd-go/agentd/sandbox"
	"github.com/agentd-go/agentd/wire"
)

// savable is a machine that can be saved.
func savable(t *testing.T, kernel string) sandbox.Config {
	t.Helper()
	if wire.Newest < wire.BarrierSince {
		t.Skip("the agent does not freeze commands for our own hosts")
	}
	cfg := warm(t, kernel)
	cfg.Hostname = "first"
	cfg.Socket = filepath.Join(t.TempDir(), "socket")
	return cfg
}

// counting is a command that prints a number in each line, as fast as it can.
const counting = "i=0; while :; do echo $i; i=$((i+1)); done"

// contiguous reads lines that count up, until enough is closed and one more has come.
func contiguous(r io.Reader, enough <-chan struct{}) (last int, err error) {
	lines := bufio.NewScanner(r)
	for n := 0; lines.Scan(); n++ {
		if lines.Text() != strconv.Itoa(n) {
			return n, fmt.Errorf("%q comes after %d", lines.Text(), n-1)
		}
		select {
		case <-enough:
			return n, nil
		default:
		}
	}
	return 0, fmt.Errorf("the output ends: %w", lines.Err())
}

// clockError is by how much the machine's clock is certainly wrong: it has to lie between
// the host's times before and after it is read.
func clockError(t *testing.T, m *sandbox.Machine) time.Duration {
	t.Helper()
	before := time.Now()
	// Busybox's date has no parts of a second. The kernel stamps a new file by the clock.
	out := output(t, m, "rm -f /tmp/now && : > /tmp/now && stat -c %y /tmp/now")
	after := time.Now()
	now, err := time.Parse("2006-01-02 15:04:05.999999999 -0700", strings.TrimSpace(out))
	check(t, err)
	return max(before.Sub(now), now.Sub(after), 0)
}

// A machine that is paused to the disk goes on in the middle of a command's output.
func TestPause(t *testing.T) {
	for _, kernel := range kernels(t) {
		t.Run(kernel, func(t *testing.T) {
			m := startWarm(t, savable(t, kernel))
			cmd := m.Client().Command("sh", "-c", counting)
			out, err := cmd.StdoutPipe()
			check(t, err)
			check(t, cmd.Start())
			enough, ended := make(chan struct{}), make(chan error, 1)
			go func() {
				_, err := contiguous(out, enough)
				ended <- err
			}()
			boot := output(t, m, "cat /proc/sys/kernel/random/boot_id")
			for i := range 3 {
				dir := filepath.Join(t.TempDir(), "paused")
				start := time.Now()
				check(t, m.Pause(t.Context(), dir, nil))
				paused := time.Now()
				time.Sleep(1500 * time.Millisecond)
				resuming := time.Now()
				check(t, m.Resume(t.Context()))
				t.Logf("pause %v, resume %v", paused.Sub(start), time.Since(resuming))
				if off := clockError(t, m); off > 100*time.Millisecond {
					t.Errorf("round %d: the clock is off by at least %v", i, off)
				}
			}
			if now := output(t, m, "cat /proc/sys/kernel/random/boot_id"); now != boot {
				t.Errorf("boot id %s, then %s", boot, now)
			}
			close(enough)
			check(t, <-ended)
			check(t, cmd.Kill())
		})
	}
}

// Machines that go on from one snapshot, and the original, have what they had and differ.
func TestRestore(t *testing.T) {
	for _, kernel := range kernels(t) {
		t.Run(kernel, func(t *testing.T) {
			cfg := savable(t, kernel)
			cfg.Network = true
			m := startWarm(t, cfg)
			output(t, m, "echo kept > /root/file; (while :; do date +%s >> /root/ticks; sleep 0.1; done) >/dev/null 2>&1 &")
			const unique = "hostname; cat /etc/hostname; head -c 32 /dev/urandom | od -An -tx1; cat /proc/sys/kernel/random/boot_id /proc/sys/kernel/random/uuid"
			before := output(t, m, unique)
			dir := filepath.Join(t.TempDir(), "snapshot")
			start := time.Now()
			check(t, m.Snapshot(t.Context(), dir, nil))
			t.Logf("snapshot %v", time.Since(start))
			seen := map[string]bool{}
			for line := range strings.Lines(before + "\n" + output(t, m, "head -c 32 /dev/urandom | od -An -tx1")) {
				seen[line] = true
			}
			for i := range 2 {
				name := fmt.Sprintf("twin%d", i)
				start := time.Now()
				twin, err := sandbox.Restore(t.Context(), dir, sandbox.RestoreConfig{Hostname: name, MachineID: true})
				check(t, err)
				t.Cleanup(func() { stop(t, twin) })
				t.Logf("restore %v", time.Since(start))
				for line := range strings.Lines(output(t, twin, unique)) {
					if seen[line] && strings.TrimSpace(line) != name {
						t.Errorf("%s has %q of another machine", name, line)
					}
					seen[line] = true
				}
				if got := output(t, twin, "cat /root/file; grep -c "+name+" /etc/hosts; cat /etc/machine-id | wc -c"); got != "kept\n2\n33" {
					t.Errorf("%s: %q", name, got)
				}
				first := output(t, twin, "wc -l < /root/ticks")
				output(t, twin, "sleep 0.5")
				if second := output(t, twin, "wc -l < /root/ticks"); first == second {
					t.Errorf("the command of before stands still at %s", first)
				}
			}
		})
	}
}
