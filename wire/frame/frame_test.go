package frame

import (
	"bytes"
	"errors"
	"testing"
)

func TestAppend(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		f    Frame
		want string
	}{
		{"empty body", Frame{}, "\x00\x00\x00\x05\x00\x00\x00\x00\x00"},
		{"big endian", Frame{ID: 0x01020304, Flags: Terminal | Bulk, Body: []byte("ab")}, "\x00\x00\x00\x07\x01\x02\x03\x04\x09ab"},
		{"last id", Frame{ID: 0xFFFFFFFF, Flags: 0xFF}, "\x00\x00\x00\x05\xff\xff\xff\xff\xff"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := Append([]byte("before"), c.f)
			if err != nil || string(got) != "before"+c.want {
				t.Errorf("got %x, %v; want %x", got, err, c.want)
			}
		})
	}
}

func TestAppendLimit(t *testing.T) {
	t.Parallel()
	got, err := Append(nil, Frame{Body: make([]byte, MaxBody)})
	if err != nil || len(got) != 4+MaxLength {
		t.Errorf("longest body: %d bytes, %v", len(got), err)
	}
	got, err = Append([]byte("x"), Frame{Body: make([]byte, MaxBody+1)})
	var tooLong *LengthError
	if !errors.As(err, &tooLong) || tooLong.Length != MaxLength+1 || string(got) != "x" {
		t.Errorf("one byte more: %q, %v", got, err)
	}
}

func TestPutHeader(t *testing.T) {
	t.Parallel()
	b := make([]byte, HeaderSize)
	PutHeader(b, 7, SessionStart, 100)
	want, err := Append(nil, Frame{ID: 7, Flags: SessionStart, Body: make([]byte, 100)})
	if err != nil || !bytes.HasPrefix(want, b) {
		t.Errorf("header %x is not the beginning of %x (%v)", b, want[:HeaderSize], err)
	}
}

func TestLengthErrorSaysRuleAndValue(t *testing.T) {
	t.Parallel()
	for length, want := range map[uint32]string{
		4:          "frame length 4 is below the minimum of 5",
		4194305:    "frame length 4194305 is above the maximum of 4194304",
		4294967295: "frame length 4294967295 is above the maximum of 4194304",
	} {
		if got := (&LengthError{Length: length}).Error(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestFlagsString(t *testing.T) {
	t.Parallel()
	for f, want := range map[Flags]string{
		0:                   "0",
		Terminal:            "terminal",
		SessionStart | Bulk: "session-start|bulk",
		Shutdown:            "shutdown",
		Terminal | 0x30:     "terminal|48",
		0x80:                "128",
	} {
		if got := f.String(); got != want {
			t.Errorf("Flags(%d) = %q, want %q", f, got, want)
		}
	}
}

func TestSlots(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		slot       int
		start, end uint32
	}{
		{0, 1, 0x01FFFFFF},
		{1, 0x02000000, 0x03FFFFFE},
		{127, 0xFDFFFF82, 0xFFFFFF80},
	} {
		start, end := SlotRange(c.slot)
		if start != c.start || end != c.end {
			t.Errorf("SlotRange(%d) = %#x, %#x; want %#x, %#x", c.slot, start, end, c.start, c.end)
		}
	}
}

func TestSlotOfAgreesWithSlotRange(t *testing.T) {
	t.Parallel()
	for slot := range Slots {
		start, end := SlotRange(slot)
		for _, id := range []uint32{start, start + 1, end - 1} {
			if got, ok := SlotOf(id); !ok || got != slot {
				t.Errorf("SlotOf(%#x) = %d, %v; want %d", id, got, ok, slot)
			}
		}
		for _, id := range []uint32{start - 1, end} {
			if got, ok := SlotOf(id); ok {
				t.Errorf("SlotOf(%#x) = %d: a boundary belongs to nobody", id, got)
			}
		}
	}
	for id := uint32(Slots * Step); id != 0; id++ {
		if got, ok := SlotOf(id); ok {
			t.Errorf("SlotOf(%#x) = %d: it is above the last slot", id, got)
		}
	}
}
