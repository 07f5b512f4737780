package wire_test

import (
	"bytes"
	"fmt"

	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

// A message becomes a frame, and a frame a message.
func Example() {
	const id = 7
	b, err := wire.AppendFrame(nil, wire.Newest, id, &wire.ExecSignal{Signal: 15})
	if err != nil {
		fmt.Println(err)
		return
	}
	f, err := frame.NewReader(bytes.NewReader(b)).Next()
	if err != nil {
		fmt.Println(err)
		return
	}
	e, err := wire.DecodeEnvelope(f.Body)
	if err != nil {
		fmt.Println(err)
		return
	}
	m, err := wire.Decode(e)
	if err != nil {
		fmt.Println(err)
		return
	}
	if signal, ok := m.(*wire.ExecSignal); ok {
		fmt.Println(f.ID, e.Type, signal.Signal)
	}
	// Output: 7 core.exec.signal 15
}
