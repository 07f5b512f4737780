package agent

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/agentd-go/agentd/internal/guest/session"
	"github.com/agentd-go/agentd/internal/guest/sys"
	"github.com/agentd-go/agentd/internal/mux"
)

const (
	// heartbeatDir is the directory that the host shares with the agent.
	heartbeatDir = "/.msb"
	// heartbeatFile is what the host reads once a second (boot section 24).
	heartbeatFile = "heartbeat.json"
	// heartbeatInterval is the host's own: a slower one would look like a stall.
	heartbeatInterval = time.Second
	// timestampForm is RFC 3339 with a fixed number of fraction digits.
	timestampForm = "2006-01-02T15:04:05.000000000Z"
)

// A heartbeat is what is told each time beside the counters.
type heartbeat struct {
	seq     uint64    // Counts attempts, also those that could not be written.
	seen    uint64    // Activity at the last one,
	changed time.Time // and when that was first seen.
}

// beat tells the host at once and then every second that we live, until stop is
// closed, but for while still is set. A share that does not answer holds up nothing but this.
func beat(stop <-chan struct{}, activity *session.Activity, pool *mux.Pool, still *atomic.Bool) {
	tidy := memoryReturner{pool: pool}
	b := heartbeat{changed: time.Now()}
	tick := time.NewTicker(heartbeatInterval)
	defer tick.Stop()
	for {
		// The host takes a file that is missing or old for no sign of anything,
		// and the share can be full at any time: there is nobody to tell.
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

// next is the file's content: the fields of all generations' agents, since each
// host passes over those that it does not know. All are numbers and times, so
// nothing needs to be escaped.
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

// writeHeartbeat replaces the file, if the directory is there. The commands may
// write to that directory too: no link that they put there is followed.
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
