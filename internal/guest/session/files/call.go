package files

import (
	"errors"

	"github.com/agentd-go/agentd/internal/guest/sys"
	"github.com/agentd-go/agentd/wire"
)

// errCall refuses a call that this agent does not have.
var errCall = errors.New("unknown call")

// pathCall is the job of a call on a path.
func pathCall(op *wire.OpCall) (job, error) {
	return named(op.Call+": ", func(*Request) (wire.FSResult, error) { return callOn(op) }, op.Path, op.Other)
}

// fileCall is the job of a call on an open file.
func (c *client) fileCall(op *wire.OpFileCall) (job, error) {
	h, err := c.acquire(op.Handle)
	return job{
		prefix: op.Call + ": ", handle: h, waits: true,
		do: func(*Request) (wire.FSResult, error) { return h.callOn(op) },
	}, err
}

// callOn makes a call on a path.
func callOn(op *wire.OpCall) (_ wire.FSResult, err error) {
	r := &wire.ResultCall{}
	name := op.Path
	if op.FollowSymlink {
		if name, err = sys.RealPath(name); err != nil {
			return nil, err
		}
	}
	switch op.Call {
	case wire.CallLink:
		err = sys.HardLink(op.Path, op.Other)
	case wire.CallGetXattr:
		r.Value, err = sys.Xattr(name, op.Other)
	case wire.CallSetXattr:
		err = sys.SetXattr(name, op.Other, op.Value)
	case wire.CallListXattr:
		r.Value, err = sys.Xattrs(name)
	case wire.CallRemoveXattr:
		err = sys.RemoveXattr(name, op.Other)
	case wire.CallStatFS:
		r.Numbers, err = statFS(name)
	default:
		err = errCall
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

// statFS describes a file system.
func statFS(name string) ([]uint64, error) {
	s, err := sys.StatDisk(name)
	block := s.Frsize
	if block == 0 {
		block = s.Bsize
	}
	const readOnly = 1 // ST_RDONLY.
	return []uint64{
		wire.FSKind: uint64(s.Type), wire.FSBlock: uint64(block),
		wire.FSBlocks: s.Blocks, wire.FSFree: s.Bfree, wire.FSAvailable: s.Bavail,
		wire.FSFiles: s.Files, wire.FSFreeFiles: s.Ffree, wire.FSMaxName: uint64(s.Namelen),
		wire.FSReadOnly: uint64(s.Flags) & readOnly,
	}, err
}

// callOn makes a call on an open file, in a place among the calls.
func (h *handle) callOn(op *wire.OpFileCall) (wire.FSResult, error) {
	err := errCall
	switch op.Call {
	case wire.CallSync:
		if refused := h.client.call(func() { err = sys.SyncFile(h.file) }); refused != nil {
			err = refused
		}
	case wire.CallLockShared:
		err = h.lock(sys.Shared, op.Wait)
	case wire.CallLockExclusive:
		err = h.lock(sys.Exclusive, op.Wait)
	case wire.CallUnlock:
		err = h.lock(sys.Unlocked, 0)
	}
	if err != nil {
		return nil, err
	}
	return &wire.ResultCall{}, nil
}
