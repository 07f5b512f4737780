package wire

import (
	"encoding/hex"
	"errors"
	"testing"

	"github.com/agentd-go/agentd/wire/frame"
)

func TestDecodeRecordRefuses(t *testing.T) {
	t.Parallel()
	good := "\x01\x02\x00\x00" + "\x00\x00\x00\x00\x00\x00\x00\x05" + "x"
	if r, err := DecodeRecord([]byte(good)); err != nil || r.Offset != 5 || string(r.Data) != "x" {
		t.Fatalf("got %+v, %v", r, err)
	}
	for name, body := range map[string]string{
		"nothing":      "",
		"head only":    good[:RecordHead],
		"cut head":     good[:RecordHead-1],
		"kind 0":       "\x00" + good[1:],
		"kind 3":       "\x03" + good[1:],
		"flow 0":       good[:1] + "\x00" + good[2:],
		"both flows":   good[:1] + "\x03" + good[2:],
		"reserved":     good[:2] + "\x01" + good[3:],
		"reserved too": good[:3] + "\x01" + good[4:],
		"too long":     good + string(make([]byte, MaxRecordData)),
	} {
		if r, err := DecodeRecord([]byte(body)); !errors.Is(err, ErrRecord) {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
}

func TestAppendRecordRefuses(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]Record{
		"no data":       {Kind: BulkFS, Flow: FlowGuestToHost},
		"no kind":       {Flow: FlowGuestToHost, Data: []byte("x")},
		"both flows":    {Kind: BulkFS, Flow: flowBoth, Data: []byte("x")},
		"too much data": {Kind: BulkFS, Flow: FlowGuestToHost, Data: make([]byte, MaxRecordData+1)},
	} {
		if b, err := AppendRecord([]byte("before"), 1, r); !errors.Is(err, ErrRecord) || string(b) != "before" {
			t.Errorf("%s: %d bytes, %v", name, len(b), err)
		}
	}
}

func TestDecodeLeaseRefuses(t *testing.T) {
	t.Parallel()
	b, err := hex.DecodeString("4d53424c010200000200000003fffffe0102030405060708090a0b0c0d0e0f10")
	must(t, err)
	good := string(b)
	if _, err := DecodeLease(b); err != nil {
		t.Fatal(err)
	}
	for name, body := range map[string]string{
		"nothing":        "",
		"magic only":     good[:4],
		"cut":            good[:31],
		"longer":         good + "\x00",
		"another magic":  "MSBX" + good[4:],
		"format 2":       good[:4] + "\x02" + good[5:],
		"event 0":        good[:5] + "\x00" + good[6:],
		"event 3":        good[:5] + "\x03" + good[6:],
		"reserved":       good[:6] + "\x01" + good[7:],
		"reserved too":   good[:7] + "\x01" + good[8:],
		"no incarnation": good[:16] + string(make([]byte, 16)),
	} {
		if l, err := DecodeLease([]byte(body)); !errors.Is(err, ErrLease) {
			t.Errorf("%s: %+v, %v", name, l, err)
		}
	}
}

func TestIsLease(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		f    frame.Frame
		want bool
	}{
		"lease":       {frame.Frame{Body: []byte("MSBL…")}, true},
		"with an id":  {frame.Frame{ID: 1, Body: []byte("MSBL…")}, false},
		"with flags":  {frame.Frame{Flags: frame.Terminal, Body: []byte("MSBL…")}, false},
		"an envelope": {frame.Frame{Body: []byte("\xa3…")}, false},
		"too short":   {frame.Frame{Body: []byte("MSB")}, false},
	} {
		if got := IsLease(c.f); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
