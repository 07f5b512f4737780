package relay

// Exported for tests.
const (
	ClientMemory = clientMemory
	AllStored    = allStored
	MaxCommands  = maxCommands
	KillGrace    = killGrace
	SettleTime   = settleTime
)

// LimitDisk sets what clients may leave unread on disk.
func (r *Relay) LimitDisk(n int64) { r.disk.Store(n) }

// DiskLeft is what they may still leave.
func (r *Relay) DiskLeft() int64 { return r.disk.Load() }
