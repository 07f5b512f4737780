package sandbox

import (
	"encoding/hex"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentd-go/agentd/internal/relay"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

// The relay's frames equal those recorded from reference hosts (protocol section 19),
// in our own generation.
func TestWords(t *testing.T) {
	incarnation := relay.Incarnation{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
	for name, tt := range map[string]struct {
		got  []byte
		want string
	}{
		"lease":     {words(8, true, false).Lease(0x02000000, 0x03fffffe, incarnation), "0000002500000000004d53424c010100000200000003fffffe0102030405060708090a0b0c0d0e0f10"},
		"kill":      {words(7, false, false).Kill(1), "000000280000000100a3617604617470636f72652e657865632e7369676e616c617049a1667369676e616c09"},
		"left":      {words(7, false, false).Left(1, 0x01ffffff, nil), "000000500000000000a36176046174781e636f72652e72656c61792e636c69656e742e646973636f6e6e656374656461705821a26869645f7374617274017069645f656e645f6578636c75736976651a01ffffff"},
		"probe":     {words(6, false, false).Probe(9), "000000190000000900a3617604617469636f72652e70696e67617041a0"},
		"old probe": {words(5, false, false).Probe(2), "000000410000000202a361760461746f636f72652e66732e7265717565737461705822a1626f70a16453746174a26470617468612f6e666f6c6c6f775f73796d6c696e6bf4"},
		"clock":     {clockSync(time.Unix(1795464998, 0)), "000000390000000000a361760461746f636f72652e636c6f636b2e73796e636170581aa16f756e69785f74696d655f6e616e6f731b18eac5e7246ffc00"},
	} {
		own := "6176" + hex.EncodeToString([]byte{byte(wire.Newest)})
		if got, want := hex.EncodeToString(tt.got), strings.Replace(tt.want, "617604", own, 1); got != want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, want)
		}
	}
}

// An acknowledgement is one of a lease's end, as recorded of 0.7.2, and nothing else.
func TestReleased(t *testing.T) {
	const recorded = "4d53424c010200000200000003fffffe0102030405060708090a0b0c0d0e0f10"
	for body, want := range map[string]bool{
		recorded: true,
		strings.Replace(recorded, "0102", "0101", 1): false,
		recorded[:60]: false,
		"a36176":      false,
		"":            false,
	} {
		b, err := hex.DecodeString(body)
		if err != nil {
			t.Fatal(err)
		}
		which, got := released(frame.Frame{Body: b})
		if got != want || got && which[15] != 16 {
			t.Errorf("%s: %t, %x", body, got, which)
		}
	}
}

func TestIsCommand(t *testing.T) {
	for body, want := range map[string]bool{
		"b90003617605617471636f72652e657865632e72657175657374617051b9000163636d64692f62696e2f74727565": true,
		"bf617041a06174" + "71636f72652e657865632e72657175657374" + "617607ff":                         true, // Another order, no length.
		"a361760461746f636f72652e66732e72657175657374617041a0":                                         false,
		"a3": false,
		"":   false,
	} {
		b, err := hex.DecodeString(body)
		if err != nil {
			t.Fatal(err)
		}
		if got := words(7, false, false).IsCommand(frame.Frame{ID: 1, Flags: frame.SessionStart, Body: b}); got != want {
			t.Errorf("%s: %t", body, got)
		}
	}
}

// The host sends the time to the guest each minute, when the host's clocks disagree, and
// when an emulated machine may have lost time.
func TestDue(t *testing.T) {
	base := reading{wall: time.Unix(1795464998, 0)}
	for _, tt := range []struct {
		wall, mono, starved time.Duration
		want                bool
	}{
		{2 * time.Second, 2 * time.Second, 0, false},
		{7 * time.Second, 2 * time.Second, 0, false},
		{8 * time.Second, 2 * time.Second, 0, true}, // The host has slept, or its clock was set.
		{-4 * time.Second, 2 * time.Second, 0, true},
		{58 * time.Second, 58 * time.Second, 0, false},
		{60 * time.Second, 60 * time.Second, 0, true},
		{2 * time.Second, 2 * time.Second, 49 * time.Millisecond, false},
		{2 * time.Second, 2 * time.Second, 50 * time.Millisecond, true},
		{2 * time.Second, 2 * time.Second, -time.Minute, true}, // Another QEMU, after a pause.
	} {
		now := reading{base.wall.Add(tt.wall), tt.mono, tt.starved}
		if got := now.due(base); got != tt.want {
			t.Errorf("after %v on the wall, %v, and %v without a processor: %t", tt.wall, tt.mono, tt.starved, got)
		}
	}
}

func TestKeepTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var told []time.Duration
		done, ended := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(ended)
			keepTime(done, func() time.Duration { return 0 }, func(now time.Time) error {
				told = append(told, now.Sub(start))
				if len(told) == 2 {
					return errClock // It is sent again at the next check.
				}
				return nil
			})
		}()
		time.Sleep(2*clockPeriod + 3*clockCheck)
		close(done)
		<-ended
		want := []time.Duration{0, clockPeriod, clockPeriod + clockCheck, 2*clockPeriod + clockCheck}
		if len(told) != len(want) {
			t.Fatalf("told after %v, want %v", told, want)
		}
		for i := range want {
			if told[i] != want[i] {
				t.Errorf("told after %v, want %v", told, want)
			}
		}
	})
}
