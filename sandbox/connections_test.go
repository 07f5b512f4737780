package sandbox_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/agentd-go/agentd/sandbox"
)

// connected starts programs in the machine that write a file when their connection has
// ended: "out" is one with this host, "in" one from this host by the agent, "own" one
// within the machine.
func connected(t *testing.T, m *sandbox.Machine) net.Conn {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	t.Cleanup(func() { _ = l.Close() })
	_, port, err := net.SplitHostPort(l.Addr().String())
	check(t, err)
	output(t, m, fmt.Sprintf(`cd /tmp; mkfifo a b c d
		for f in a b c d; do sleep 1000 >$f & done
		(nc 10.0.2.2 %s <a >/dev/null; echo out >>ended) >/dev/null 2>&1 &
		(nc -l -p 701 <b >got; echo in >>ended) >/dev/null 2>&1 &
		(nc -l -p 702 <c >/dev/null; echo own >>ended) >/dev/null 2>&1 &
		until netstat -tln | grep -q :702; do usleep 10000; done
		(nc 127.0.0.1 702 <d >/dev/null; echo own >>ended) >/dev/null 2>&1 &
		until netstat -tln | grep -q :701; do usleep 10000; done
		until netstat -tn | grep -q ':702 .*ESTABLISHED'; do usleep 10000; done`, port))
	guest, err := l.Accept()
	check(t, err)
	t.Cleanup(func() { _ = guest.Close() })
	c, err := m.Client().DialContext(t.Context(), "tcp", "127.0.0.1:701")
	check(t, err)
	t.Cleanup(func() { _ = c.Close() })
	_, err = io.WriteString(c, "here")
	check(t, err)
	output(t, m, "until grep -q here /tmp/got; do usleep 10000; done")
	return c
}

// Connections with other hosts end at once in a machine that goes on from a snapshot, and no
// program waits for ever. Those within the machine stay, and all of the original's.
func TestConnectionsOfBefore(t *testing.T) {
	for _, kernel := range kernels(t) {
		t.Run(kernel, func(t *testing.T) {
			cfg := savable(t, kernel)
			cfg.Network = true
			m := startWarm(t, cfg)
			c := connected(t, m)
			dir := filepath.Join(t.TempDir(), "snapshot")
			check(t, m.Snapshot(t.Context(), dir, nil))
			moveInitrd(t, dir)
			twin, err := sandbox.Restore(t.Context(), dir, sandbox.RestoreConfig{})
			check(t, err)
			t.Cleanup(func() { stop(t, twin) })
			start := time.Now()
			got := output(t, twin, "cd /tmp; i=0; while [ $(cat ended | wc -l) -lt 2 ] && [ $i -lt 3000 ]; do usleep 10000; i=$((i+1)); done; sort ended")
			if got != "in\nout" {
				t.Errorf("ended in the new machine: %q after %v", got, time.Since(start))
			}
			t.Logf("ended after %v", time.Since(start))
			_, err = io.WriteString(c, " still")
			check(t, err)
			if got := output(t, m, "cd /tmp; until grep -q still got; do usleep 10000; done; cat ended 2>/dev/null; netstat -tn | grep -c ':702 .*ESTABLISHED'"); got != "2" {
				t.Errorf("in the original: %q", got)
			}
			refusesOtherQEMU(t, dir)
		})
	}
}

// moveInitrd has the snapshot name an initramfs that is not there, as on another host or
// after "agentctl system prune".
func moveInitrd(t *testing.T, dir string) {
	t.Helper()
	manifest := filepath.Join(dir, "manifest.json")
	b, err := os.ReadFile(manifest)
	check(t, err)
	check(t, os.WriteFile(manifest, regexp.MustCompile(`("[Ii]nitrd": ")[^"]+"`).ReplaceAll(b, []byte(`${1}/none/initramfs"`)), 0o600))
}

// refusesOtherQEMU changes the snapshot to one of another QEMU.
func refusesOtherQEMU(t *testing.T, dir string) {
	t.Helper()
	manifest := filepath.Join(dir, "manifest.json")
	b, err := os.ReadFile(manifest)
	check(t, err)
	_, after, _ := bytes.Cut(b, []byte(`"qemu": "`))
	version, _, _ := bytes.Cut(after, []byte(`"`))
	changed := bytes.Replace(b, append([]byte(`"qemu": "`), version...), []byte(`"qemu": "4.2.1`), 1)
	check(t, os.WriteFile(manifest, changed, 0o600))
	files := filepath.Join(t.TempDir(), "new")
	other, err := sandbox.Restore(t.Context(), dir, sandbox.RestoreConfig{Files: files})
	if err == nil {
		stop(t, other)
		t.Error("a machine of another QEMU goes on")
	} else if want := fmt.Sprintf("made with QEMU 4.2.1, and here is %s", version); len(version) == 0 || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %q", err, want)
	}
}
