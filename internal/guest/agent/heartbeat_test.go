package agent_test

import (
	"encoding/json"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/agentd-go/agentd/internal/nstest"
	"github.com/agentd-go/agentd/wire"
)

// beats is what hosts of both generations read; each demands its own part.
type beats struct {
	Seq            *uint64    `json:"heartbeat_seq"`
	Activity       *uint64    `json:"activity_seq"`
	Timestamp      *time.Time `json:"timestamp"`
	LastActivity   *time.Time `json:"last_activity"`
	ActiveSessions *uint32    `json:"active_sessions"`
	ActiveExec     *uint32    `json:"active_exec_sessions"`
	ActiveFS       *uint32    `json:"active_fs_streams"`
	ActiveTCP      *uint32    `json:"active_tcp_streams"`
	Counters       map[string]uint64
}

const heartbeatName = "/.msb/heartbeat.json"

// beatOf reads the heartbeat: it is valid at every instant once it is there.
func beatOf(t *testing.T) (b beats, ok bool) {
	t.Helper()
	content, err := os.ReadFile(heartbeatName)
	if err != nil {
		return b, false
	}
	if err := json.Unmarshal(content, &b); err != nil {
		t.Fatalf("%v: %s", err, content)
	}
	var counters struct {
		C map[string]uint64 `json:"activity_counters"`
	}
	if err := json.Unmarshal(content, &counters); err != nil {
		t.Fatal(err)
	}
	b.Counters = counters.C
	if b.Seq == nil || b.Activity == nil || b.Timestamp == nil || b.LastActivity == nil ||
		b.ActiveSessions == nil || b.ActiveExec == nil || b.ActiveFS == nil || b.ActiveTCP == nil || len(b.Counters) != 5 {
		t.Fatalf("fields are missing: %s", content)
	}
	return b, true
}

//holds:boot 24: whole JSON at every moment, numbers that rise beside a flood, no temporary file
//holds:boot 25: pings are no activity, a touch is one, a quiet command counts
//holds:boot 24: heartbeat: whole at every instant, both formats, higher under a flood, nothing left beside; a silent command counts
func TestHeartbeat(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		if err := os.Mkdir("/.msb", 0o777); err != nil {
			t.Fatal(err)
		}
		// What a command could plant: none of it is followed.
		for _, name := range []string{heartbeatName, "/.msb/.heartbeat.json.agentd"} {
			if err := os.Symlink("/tmp/victim", name); err != nil {
				t.Fatal(err)
			}
		}
		h := newHost(t, config{})
		h.send(1, &wire.ExecRequest{Cmd: "yes"})
		var first beats
		eventually(t, "a heartbeat with the command", func() (ok bool) {
			first, ok = beatOf(t)
			return ok && *first.ActiveExec == 1
		})
		eventually(t, "the next one", func() bool {
			b, ok := beatOf(t)
			return ok && *b.Seq > *first.Seq && *b.Activity > *first.Activity && b.Counters["exec_output_bytes"] > 0 &&
				b.Timestamp.After(*first.Timestamp)
		})
		file := h.openFile("/tmp/f", wire.OpenOptions{Write: true, Create: true})
		h.send(2, &wire.FSRequest{Op: &wire.OpWrite{Handle: file}})
		h.send(2, &wire.FSData{Data: []byte("bytes")})
		eventually(t, "a heartbeat with the file", func() bool {
			b, ok := beatOf(t)
			return ok && *b.ActiveFS == 1 && b.Counters["fs_bytes"] == 5
		})
		h.send(2, &wire.FSData{Data: []byte{}})
		h.response(2)
		h.send(1, &wire.ExecSignal{Signal: 9})
		waitEnd(h, 1)
		var quiet beats
		eventually(t, "the end of activity", func() bool {
			b, _ := beatOf(t)
			same := quiet.Seq != nil && *b.Activity == *quiet.Activity && *b.Seq > *quiet.Seq && b.LastActivity.Equal(*quiet.LastActivity)
			quiet = b
			return same && *b.ActiveSessions == 0 && *b.ActiveFS == 0 && b.LastActivity.Before(*b.Timestamp)
		})
		if left, err := os.ReadDir("/.msb"); err != nil || len(left) != 1 {
			t.Errorf("%v, %v: want the heartbeat alone", left, err)
		}
		if _, err := os.Stat("/tmp/victim"); err == nil {
			t.Error("a link was followed")
		}
	})
}

// waitEnd passes over what a command says until its end.
func waitEnd(h *host, id uint32) {
	h.t.Helper()
	for {
		if _, ok := h.next(id).Message.(*wire.ExecExited); ok {
			return
		}
	}
}

// Without the shared directory, or with something else in its place, nothing is
// written.
func TestNoHeartbeat(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		if err := os.Symlink("/tmp", "/.msb"); err != nil {
			t.Fatal(err)
		}
		h := newHost(t, config{})
		h.ping()
		if got := h.say("sleep 1.2; ls /tmp"); got != "" {
			t.Errorf("written to where a link led: %q", got)
		}
	})
}

// A clock that is 5 s off is set, one that is 50 ms off is left. Namespaces have no
// clock of their own, so the agent is told that it may not set one.
//
//holds:boot 25: a clock 5 s off is set, 50 ms off is left
func TestClockTolerance(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		stderr := os.Stderr
		os.Stderr = w
		defer func() { os.Stderr = stderr }()
		h := newHost(t, config{})
		for _, off := range []time.Duration{50 * time.Millisecond, -50 * time.Millisecond, 5 * time.Second, -5 * time.Second} {
			h.send(0, &wire.ClockSync{UnixTimeNanos: uint64(time.Now().Add(off).UnixNano())})
			h.send(5, &wire.Ping{})
			h.next(5)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		said, err := io.ReadAll(r)
		if n := strings.Count(string(said), "set clock to "); err != nil || n != 2 {
			t.Errorf("%d attempts to set the clock, %v:\n%s", n, err, said)
		}
	})
}
