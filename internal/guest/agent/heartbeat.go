package agent

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/agentd-go/agentd/internal/guest/session"
	"github.com/agentd-go/agentd/internal/guest/sys"
)

const (
	// heartbeatDir is the directory that the host shares with the agent.
	heartbeatDir = "/.msb"
	// heartbeatFile is the file that the host reads once a second (boot section 24).
	heartbeatFile = "heartbeat.json"
	// heartbeatInterval is the host's interval: a longer one would look like a stall.
	heartbeatInterval = time.Second
	// timestampForm is RFC 3339 with a fixed number of fraction digits.
	timestampForm = "2006-01-02T15:04:05.000000000Z"
)

// A heartbeat has the numbers that a heartbeat file shows besides the counters.
type heartbeat struct {
	seq     uint64    // Counts attempts, with those that failed.
	seen    uint64    // The activity number at the last attempt.
	changed time.Time // When that number was first seen.
}

// beat writes the heartbeat file at once and then every second, until stop is closed. It
// writes nothing while still is set. A share that does not answer blocks only this goroutine.
func beat(stop <-chan struct{}, activity *session.Activity, tidy memoryReturner, still *atomic.Bool) {
	b := heartbeat{changed: time.Now()}
	tick := time.NewTicker(heartbeatInterval)
	defer tick.Stop()
	for {
		// A missing or old file is no failure to the host, and the share can be full at
		// any time. So errors are ignored.
		if !still.Load() {
			_ = writeHeartbeat(b.next(time.Now(), activity.Counters()))
		}
		tidy.look(activity.Counters())
		select {
		case <-tick.C:
		case <-stop:
			return
		}
	}
}

// next returns the file's content: the fields of all generations, since a host ignores
// fields that it does not know. All are numbers and times, so nothing needs escaping.
func (b *heartbeat) next(now time.Time, c session.Counters) []byte {
	b.seq++
	if c.Seq != b.seen {
		b.seen, b.changed = c.Seq, now
	}
	return fmt.Appendf(nil, `{"heartbeat_seq":%d,"activity_seq":%d,"timestamp":%q,"last_activity":%q,`+
		`"active_sessions":%d,"active_exec_sessions":%d,"active_fs_streams":%d,"active_tcp_streams":%d,`+
		`"activity_counters":{"host_messages":%d,"guest_messages":%d,"exec_output_bytes":%d,"fs_bytes":%d,"tcp_bytes":%d}}`,
		b.seq, c.Seq, now.UTC().Format(timestampForm), b.changed.UTC().Format(timestampForm),
		c.Commands, c.Commands, c.FSStreams, c.TCPStreams,
		c.HostMessages, c.GuestMessages, c.ExecOutputBytes, c.FSBytes, c.TCPBytes)
}

// writeHeartbeat replaces the file, if the directory exists. Commands may write to that
// directory too, so no link in it is followed.
func writeHeartbeat(content []byte) error {
	root, err := sys.OpenRoot("/")
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	dir, err := root.Open(heartbeatDir)
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	const readable = 0o644
	return dir.WriteFile(heartbeatFile, content, readable)
}
