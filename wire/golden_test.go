package wire

import (
	"bytes"
	"encoding/hex"
	"os"
	"strings"
	"testing"

	"github.com/agentd-go/agentd/wire/frame"
)

// goldenFrame is a line of testdata/golden/frames.txt.
type goldenFrame struct {
	name  string
	bytes []byte
}

func goldenFrames(tb testing.TB) []goldenFrame {
	tb.Helper()
	file, err := os.ReadFile("testdata/golden/frames.txt")
	if err != nil {
		tb.Fatal(err)
	}
	var all []goldenFrame
	for line := range strings.Lines(string(file)) {
		parts := strings.Split(strings.TrimSpace(line), " | ")
		if len(parts) != 3 {
			continue
		}
		b, err := hex.DecodeString(parts[2])
		if err != nil {
			tb.Fatalf("%s: %v", parts[0], err)
		}
		all = append(all, goldenFrame{parts[0] + " " + parts[1], b})
	}
	return all
}

//holds:wire 3: frames are emitted byte for byte
//holds:wire 19: golden frames; the recorded request is answered
func TestGoldenFramesRoundTrip(t *testing.T) {
	t.Parallel()
	all := goldenFrames(t)
	if len(all) != 39+18+2 {
		t.Fatalf("%d golden frames: some are missing", len(all))
	}
	for _, g := range all {
		t.Run(g.name, func(t *testing.T) {
			t.Parallel()
			r := frame.NewReader(bytes.NewReader(g.bytes))
			f, err := r.Next()
			if err != nil {
				t.Fatal(err)
			}
			if got := again(t, f); !bytes.Equal(got, g.bytes) {
				t.Errorf("encoded again:\n got %x\nwant %x", got, g.bytes)
			}
		})
	}
}

// again decodes a frame and encodes what it found.
func again(t *testing.T, f frame.Frame) []byte {
	t.Helper()
	var out []byte
	switch {
	case f.Flags == frame.Bulk:
		r, err := DecodeRecord(f.Body)
		must(t, err)
		out, err = AppendRecord(nil, f.ID, r)
		must(t, err)
	case IsLease(f):
		l, err := DecodeLease(f.Body)
		must(t, err)
		out = AppendLease(nil, l)
	default:
		e, err := DecodeEnvelope(f.Body)
		must(t, err)
		m, err := Decode(e)
		must(t, err)
		if m.Type() != e.Type {
			t.Errorf("decoded a %s as %s", e.Type, m.Type())
		}
		out, err = AppendFrame(nil, e.Generation, f.ID, m)
		must(t, err)
	}
	return out
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
