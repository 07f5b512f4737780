package wire

import (
	"bytes"
	"errors"
	"reflect"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"github.com/agentd-go/agentd/wire/frame"
)

// Another implementation of CBOR judges this one: whatever we accept it must find
// well-formed, and whatever we emit it must take with every strictness on.
var (
	lenient = decMode(cbor.DecOptions{MaxNestedLevels: 65535, MaxArrayElements: 1<<31 - 1, MaxMapPairs: 1<<31 - 1})
	strict  = decMode(cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden,
		UTF8: cbor.UTF8RejectInvalid, MaxArrayElements: 1<<31 - 1, MaxMapPairs: 1<<31 - 1,
	})
)

func decMode(o cbor.DecOptions) cbor.DecMode {
	m, err := o.DecMode()
	if err != nil {
		panic(err)
	}
	return m
}

// checkWellFormed allows bytes after the item, as we do.
func checkWellFormed(t *testing.T, b []byte) {
	t.Helper()
	var extra *cbor.ExtraneousDataError
	if err := lenient.Wellformed(b); err != nil && !errors.As(err, &extra) {
		t.Fatalf("accepted what is not CBOR: %v: %x", err, b)
	}
}

// checkEmitted opens a frame of ours with the other implementation.
func checkEmitted(t *testing.T, whole []byte, m Message) {
	t.Helper()
	var e struct {
		V uint8  `cbor:"v"`
		T string `cbor:"t"`
		P []byte `cbor:"p"`
	}
	if err := strict.Unmarshal(whole[frame.HeaderSize:], &e); err != nil || e.T != string(m.Type()) {
		t.Fatalf("emitted %x: %v, type %q", whole, err, e.T)
	}
	var payload map[string]any
	if err := strict.Unmarshal(e.P, &payload); err != nil {
		t.Fatalf("emitted a payload %x: %v", e.P, err)
	}
}

func FuzzEnvelope(f *testing.F) {
	for _, g := range goldenFrames(f) {
		f.Add(g.bytes[frame.HeaderSize:])
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		e, err := DecodeEnvelope(body)
		if err != nil {
			if _, ok := errors.AsType[*EnvelopeError](err); !ok {
				t.Fatalf("%T: %v", err, err)
			}
			return
		}
		checkWellFormed(t, body)
		again := appendHead(appendEnvelopeHead(nil, e.Generation, e.Type), majorBytes, uint64(len(e.Payload)))
		again = append(again, e.Payload...)
		if got, err := DecodeEnvelope(again); err != nil || !reflect.DeepEqual(got, e) {
			t.Fatalf("%+v became %+v, %v", e, got, err)
		}
	})
}

func FuzzPayload(f *testing.F) {
	for _, g := range goldenFrames(f) {
		if e, err := DecodeEnvelope(g.bytes[frame.HeaderSize:]); err == nil {
			f.Add(uint8(place(e.Type)), e.Payload)
		}
	}
	for _, m := range extensionMessages() {
		f.Add(uint8(place(m.Type())), encoded(f, m))
	}
	f.Fuzz(func(t *testing.T, which uint8, payload []byte) {
		typ := rows[int(which)%len(rows)].Type
		m, err := Decode(Envelope{Type: typ, Payload: payload})
		if err != nil {
			if _, ok := errors.AsType[*PayloadError](err); !ok {
				t.Fatalf("%T: %v", err, err)
			}
			return
		}
		if typ != TypeShutdown {
			checkWellFormed(t, payload)
		}
		checkRoundTrip(t, m)
	})
}

func checkRoundTrip(t *testing.T, m Message) {
	t.Helper()
	whole, err := AppendFrame(nil, Newest, 1, m)
	if _, ok := errors.AsType[*frame.LengthError](err); ok {
		return // nulls and defaults that the sender left out
	}
	must(t, err)
	checkEmitted(t, whole, m)
	e, err := DecodeEnvelope(whole[frame.HeaderSize:])
	must(t, err)
	got, err := Decode(e)
	if err != nil || !reflect.DeepEqual(got, m) {
		t.Fatalf("%+v became %+v, %v", m, got, err)
	}
	again, err := AppendFrame(nil, Newest, 1, got)
	if err != nil || !bytes.Equal(again, whole) {
		t.Fatalf("%x became %x, %v", whole, again, err)
	}
}

func FuzzDataOf(f *testing.F) {
	f.Add([]byte(mapOf("data", bstr("ab"))))
	f.Add([]byte("\xb9\x00\x01" + tstr("data") + "\xd8\x40" + bstr("ab")))
	f.Add([]byte(mapOf("x", null, "data", ints("ab"))))
	f.Fuzz(func(t *testing.T, payload []byte) {
		e := Envelope{Type: TypeTCPData, Payload: payload}
		got, err := DataOf(e)
		m, wantErr := Decode(e)
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("DataOf: %v, Decode: %v", err, wantErr)
		}
		if err != nil {
			return
		}
		if want, ok := m.(*TCPData); !ok || !bytes.Equal(got, want.Data) {
			t.Fatalf("got %x, want %+v", got, m)
		}
	})
}

// FuzzRecord holds a raw record and a lease against each other's rules: what is
// taken comes out as it went in, and what is refused was malformed.
//
//holds:wire 12: every slip ends one flow
func FuzzRecord(f *testing.F) {
	for _, g := range goldenFrames(f) {
		f.Add(g.bytes[frame.HeaderSize:])
	}
	f.Add([]byte{1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, body []byte) {
		if r, err := DecodeRecord(body); err == nil {
			again, err := AppendRecord(nil, 7, r)
			if err != nil || !bytes.Equal(again[frame.HeaderSize:], body) {
				t.Fatalf("%x became %x, %v", body, again, err)
			}
		}
		if l, err := DecodeLease(body); err == nil {
			if again := AppendLease(nil, l); !bytes.Equal(again[frame.HeaderSize:], body) {
				t.Fatalf("%x became %x", body, again)
			}
		}
	})
}
