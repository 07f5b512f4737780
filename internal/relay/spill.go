package relay

import (
	"os"
	"sync/atomic"

	"github.com/agentd-go/agentd/internal/mux"
)

// A spill is an unlinked file with the frames that one client leaves unread. It never
// shrinks, so it takes its greatest size on the disk.
type spill struct {
	*os.File
	left   *atomic.Int64 // What all spills together may still take.
	extent int64
}

func (r *Relay) spill() (mux.Storage, error) {
	f, err := os.CreateTemp(r.cfg.Dir, "relay-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		_ = f.Close() // Empty.
		return nil, err
	}
	return &spill{File: f, left: &r.disk}, nil
}

// WriteAt writes to the file within the bound.
func (s *spill) WriteAt(p []byte, at int64) (int, error) {
	if grown := at + int64(len(p)) - s.extent; grown > 0 {
		if s.left.Add(-grown) < 0 {
			s.left.Add(grown)
			return 0, mux.ErrFull
		}
		s.extent += grown
	}
	return s.File.WriteAt(p, at)
}

// Close closes the file and returns its share of the bound.
func (s *spill) Close() error {
	s.left.Add(s.extent)
	return s.File.Close()
}
