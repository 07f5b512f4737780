package suite

import (
	"bytes"
	"encoding/json"
	"time"
)

// A beat is a heartbeat as hosts of both generations read it.
type beat struct {
	Seq            uint64            `json:"heartbeat_seq"`
	Activity       uint64            `json:"activity_seq"`
	Timestamp      time.Time         `json:"timestamp"`
	LastActivity   time.Time         `json:"last_activity"`
	ActiveSessions uint32            `json:"active_sessions"`
	ActiveExec     uint32            `json:"active_exec_sessions"`
	ActiveFS       uint32            `json:"active_fs_streams"`
	ActiveTCP      uint32            `json:"active_tcp_streams"`
	Counters       map[string]uint64 `json:"activity_counters"`
}

// parseBeat wants exactly these fields.
func parseBeat(content []byte) (b beat, err error) {
	d := json.NewDecoder(bytes.NewReader(content))
	d.DisallowUnknownFields()
	return b, d.Decode(&b)
}
