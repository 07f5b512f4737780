package client

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/agentd-go/agentd/wire"
)

// A RootDisk is the state of the disk that holds the guest's root, or the changes to it.
type RootDisk struct {
	FileSystem int64 // Size of the file system, in bytes.
	Device     int64 // Size of the disk that the guest sees, in bytes.
}

// GrowRoot makes the file system of the guest's root, or of the upper of an overlay, as
// large as size, in bytes: a multiple of 4 KiB, and not less than it is. The host makes the
// disk larger before, or at the same time: the guest waits up to 10 seconds for that. Files
// stay in use meanwhile. With the size that it has nothing changes.
//
// If the guest cannot do that, the error is a [*ProtocolError] of [KindUnavailable] with
// the reason, and nothing has changed. The end of ctx ends the wait, not the growth. The
// agent's generation is at least 9.
func (c *Client) GrowRoot(ctx context.Context, size int64) (RootDisk, error) {
	return c.disk(ctx, "grow root disk", size, &wire.RootDiskGrow{SizeBytes: uint64(size)})
}

// CheckRootGrowth says whether GrowRoot would refuse the size, whatever size the disk has,
// and returns the present state. It changes nothing.
func (c *Client) CheckRootGrowth(ctx context.Context, size int64) (RootDisk, error) {
	return c.disk(ctx, "check root disk", size, &wire.RootDiskPrepare{SizeBytes: uint64(size)})
}

func (c *Client) disk(ctx context.Context, what string, size int64, m wire.Message) (RootDisk, error) {
	if size < 0 {
		return RootDisk{}, fmt.Errorf("%s: size %d is negative", what, size)
	}
	s, err := ask[*wire.RootDiskState](ctx, c, m)
	if err != nil {
		return RootDisk{}, fmt.Errorf("%s: %w", what, err)
	}
	if max(s.FilesystemBytes, s.DeviceBytes) > math.MaxInt64 {
		return RootDisk{}, fmt.Errorf("%s: %w", what, &FrameError{string(s.Type()), errSize})
	}
	return RootDisk{FileSystem: int64(s.FilesystemBytes), Device: int64(s.DeviceBytes)}, nil
}

var errSize = errors.New("a disk of more than 2^63 bytes")
