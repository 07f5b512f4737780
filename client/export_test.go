package client

import (
	"io"

	"github.com/agentd-go/agentd/wire"
)

// ReadHello is readHello, with what the frame reader and r have left.
func ReadHello(r io.Reader) (ids IDs, gen wire.Generation, rest []byte, err error) {
	h, frames, err := readHello(r)
	if err != nil {
		return IDs{}, 0, nil, err
	}
	unread, err := io.ReadAll(r)
	return h.ids, h.generation, append(frames.Buffered(), unread...), err
}
