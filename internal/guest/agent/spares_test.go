package agent

import (
	"bytes"
	"testing"

	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

// The memory of data that has been passed on holds the next body, many times.
func TestDataGivesItsBodyBack(t *testing.T) {
	t.Parallel()
	const size, frames = 64 << 10, 20
	var link bytes.Buffer
	for i := range frames {
		b, err := wire.AppendFrame(nil, wire.Newest, 1, &wire.ExecStdin{Data: bytes.Repeat([]byte{byte(i)}, size)})
		if err != nil {
			t.Fatal(err)
		}
		link.Write(b)
	}
	r := frame.NewReader(&link)
	r.Spares = frame.NewSpares()
	var last *byte // The end of the first body.
	for i := range frames {
		f, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		e, err := wire.DecodeEnvelope(f.Body)
		if err != nil {
			t.Fatal(err)
		}
		data, err := wire.DataOf(e)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(data, bytes.Repeat([]byte{byte(i)}, size)) {
			t.Fatalf("frame %d is not what was sent", i)
		}
		data = withRoom(data, f.Body)
		all := data[:cap(data)]
		if last == nil {
			last = &all[len(all)-1]
		}
		if last != &all[len(all)-1] {
			t.Fatalf("frame %d has memory of its own", i)
		}
		r.Spares.Give(data)
	}
}

func TestWithRoomIsForDataAtTheEnd(t *testing.T) {
	t.Parallel()
	body := make([]byte, 8, 16)
	for _, c := range []struct {
		name string
		data []byte
		want int // Its room.
	}{
		{"at the end", body[3:8:8], 13},
		{"with more behind it", body[3:7:7], 4},
		{"elsewhere", make([]byte, 5), 5},
		{"none", nil, 0},
	} {
		if got := withRoom(c.data, body); len(got) != len(c.data) || cap(got) != c.want {
			t.Errorf("%s: %d bytes with room for %d, want %d and %d", c.name, len(got), cap(got), len(c.data), c.want)
		}
	}
}
