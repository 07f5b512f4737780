package agent

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/agentd-go/agentd/internal/guest/plan"
	"github.com/agentd-go/agentd/internal/guest/sys"
	"github.com/agentd-go/agentd/internal/mux"
	"github.com/agentd-go/agentd/wire"
)

const (
	// diskDeadline is how long a disk may take to become as large as the host says it
	// is, as in the reference agents; diskInterval is between two looks at it.
	diskDeadline = 10 * time.Second
	diskInterval = 20 * time.Millisecond

	// maxGrowths is how many requests may wait for each other.
	maxGrowths = 16
)

// A growth is where requests about the size of the root disk are: one at a time.
type growth struct {
	one     sync.Mutex
	waiting atomic.Int32
}

var (
	errNoBlockRoot = errors.New("root has no pinned block filesystem")
	errNoCapacity  = errors.New("guest block capacity did not converge")
	errCrowd       = errors.New("too many requests about the root disk are under way")
)

// disk answers a request about the root disk, when that is done.
func (a *Agent) disk(id uint32, of wire.Type, size uint64, grow bool) {
	to, g := a.answers(id), &a.growth // The loop's; the answer is not.
	if g.waiting.Add(1) > maxGrowths {
		g.waiting.Add(-1)
		a.diskAnswer(to, id, of, nil, errCrowd)
		return
	}
	go func() {
		defer g.waiting.Add(-1)
		g.one.Lock()
		defer g.one.Unlock()
		state, err := growDisk(a.root, size, grow)
		a.diskAnswer(to, id, of, state, err)
	}()
}

func (a *Agent) diskAnswer(to *mux.Outbox, id uint32, of wire.Type, state *wire.RootDiskState, err error) {
	var m wire.Message = state
	if err != nil {
		m = &wire.ProtocolError{Kind: wire.ErrorUnavailable, Message: err.Error(), OffendingType: of}
	}
	b, err := wire.AppendFrame(nil, a.host.Generation, id, m)
	if err != nil {
		sys.Logf("answer %s on id %d: %v", of, id, err)
		return
	}
	a.host.Activity.Sent(m.Type())
	_ = to.TrySend(b) // Of a client that has left, or reads nothing: nobody waits for it.
}

// growDisk judges a size for the root's file system, and gives it that size if grow says so.
func growDisk(root *sys.Root, size uint64, grow bool) (*wire.RootDiskState, error) {
	if root == nil {
		return nil, errNoBlockRoot
	}
	v, err := root.OpenVolume()
	if err != nil {
		return nil, err
	}
	defer func() { _ = v.Close() }() // Read only: nothing to lose.
	e, err := ext4Of(v)
	if err != nil {
		return nil, err
	}
	blocks, err := e.Grow(size)
	if err != nil {
		return nil, err
	}
	disk, err := v.DiskBytes()
	if grow && err == nil {
		disk, err = awaitDisk(v, size)
	}
	if grow && err == nil && blocks > e.Blocks {
		if err = v.Resize(blocks); err == nil {
			e, err = ext4Of(v)
		}
	}
	if err != nil {
		return nil, err
	}
	return &wire.RootDiskState{FilesystemBytes: e.Bytes(), DeviceBytes: disk}, nil
}

func ext4Of(v *sys.Volume) (plan.Ext4, error) {
	if !v.IsExt4() {
		return plan.Ext4{}, plan.ErrNoExt4
	}
	super := make([]byte, plan.Ext4SuperSize)
	if err := v.ReadDisk(super, plan.Ext4SuperAt); err != nil {
		return plan.Ext4{}, err
	}
	return plan.DecodeExt4(super)
}

// awaitDisk waits until the disk has a size: its host says that it is larger before the
// kernel has heard of it.
func awaitDisk(v *sys.Volume, size uint64) (uint64, error) {
	tick := time.NewTicker(diskInterval)
	defer tick.Stop()
	for late := time.After(diskDeadline); ; {
		disk, err := v.DiskBytes()
		if disk >= size || err != nil {
			return disk, err
		}
		select {
		case <-tick.C:
		case <-late:
			return 0, errNoCapacity
		}
	}
}
