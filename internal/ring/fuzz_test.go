package ring

import (
	"bytes"
	"io"
	"testing"

	"github.com/agentd-go/agentd/internal/mux"
)

// memory is a file in memory.
type memory struct{ b []byte }

func (m *memory) ReadAt(p []byte, at int64) (int, error) {
	if at >= int64(len(m.b)) {
		return 0, io.EOF
	}
	return copy(p, m.b[at:]), nil
}

func (m *memory) WriteAt(p []byte, at int64) (int, error) {
	if end := int(at) + len(p); end > len(m.b) {
		m.b = append(m.b, make([]byte, end-len(m.b))...)
	}
	return copy(m.b[at:], p), nil
}

func (*memory) Close() error { return nil }

// FuzzRing appends and reads as the input says, and holds every read against the stream: its
// bytes, and that a read never goes back or past what there is.
func FuzzRing(f *testing.F) {
	f.Add(uint16(0), uint16(0), []byte{200, 1, 255, 255, 0, 7})
	f.Add(uint16(9000), uint16(5000), bytes.Repeat([]byte{255, 130, 3}, 200))
	f.Add(uint16(100), uint16(40_000), bytes.Repeat([]byte{255}, 300))
	f.Fuzz(func(t *testing.T, inMemory, onDisk uint16, steps []byte) {
		open := func() (mux.Storage, error) { return new(memory), nil }
		r := New(Config{Memory: int(inMemory), Disk: int64(onDisk), Storage: open})
		defer r.Close()
		var total, at uint64
		buf := make([]byte, 1024)
		for _, s := range steps {
			if s >= 128 { // Append.
				n := int(s-127) * 40
				r.Append(stream(total, n))
				total += uint64(n)
				continue
			}
			n, from, err := r.Read(at, buf[:1+int(s)*8%len(buf)])
			if err != nil || from < at || from+uint64(n) > total || !bytes.Equal(buf[:n], stream(from, n)) {
				t.Fatalf("read at %d of %d: %d bytes from %d, %v", at, total, n, from, err)
			}
			if start, end := r.Bounds(); end != total || from < start && n > 0 {
				t.Fatalf("kept %d to %d, read from %d of %d", start, end, from, total)
			}
			at = from + uint64(n)
		}
	})
}
