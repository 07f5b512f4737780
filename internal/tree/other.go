//go:build !linux

package tree

import (
	"errors"

	"github.com/agentd-go/agentd/internal/pax"
)

// Possible reports whether this system can pack and unpack.
const Possible = false

// A Packer needs Linux.
type Packer struct{ Report Report }

// NewPacker returns an error.
func NewPacker(string, Pack) (*Packer, error) { return nil, errors.ErrUnsupported }

// Read returns an error.
func (*Packer) Read([]byte) (int, error) { return 0, errors.ErrUnsupported }

// Close does nothing.
func (*Packer) Close() {}

// An Unpacker needs Linux.
type Unpacker struct{ Report Report }

// NewUnpacker returns an error.
func NewUnpacker(string, bool, *pax.Reader, Unpack) (*Unpacker, error) {
	return nil, errors.ErrUnsupported
}

// Run returns an error.
func (*Unpacker) Run() error { return errors.ErrUnsupported }

// Close does nothing.
func (*Unpacker) Close() {}
