package wire

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"
)

// The entries of a good envelope.
var (
	entryV = tstr("v") + "\x05"
	entryT = tstr("t") + tstr("core.ping")
	entryP = tstr("p") + bstr("\xa0")
)

//holds:wire 3: every accepted form is accepted
func TestEnvelopeForms(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{
		"as emitted":            "\xa3" + entryV + entryT + entryP,
		"another order":         "\xa3" + entryP + entryV + entryT,
		"unknown keys":          "\xa5" + tstr("x") + listOf(mapOf("v", null), stopless) + entryV + entryT + "\x01\x02" + entryP,
		"indefinite map":        anyMap + entryV + entryT + entryP + stop,
		"longer map head":       "\xb9\x00\x03" + entryV + entryT + entryP,
		"longest map head":      "\xbb\x00\x00\x00\x00\x00\x00\x00\x03" + entryV + entryT + entryP,
		"keys as bytes":         "\xa3" + bstr("v") + "\x05" + bstr("t") + tstr("core.ping") + bstr("p") + bstr("\xa0"),
		"keys in pieces":        "\xa3" + anyText + tstr("v") + tstr("") + stop + "\x05" + entryT + entryP,
		"longer generation":     "\xa3" + tstr("v") + "\x1b\x00\x00\x00\x00\x00\x00\x00\x05" + entryT + entryP,
		"type in pieces":        "\xa3" + entryV + tstr("t") + anyText + tstr("core.") + tstr("ping") + stop + entryP,
		"longer type head":      "\xa3" + entryV + tstr("t") + "\x78\x09core.ping" + entryP,
		"payload in pieces":     "\xa3" + entryV + entryT + tstr("p") + anyBytes + bstr("") + bstr("\xa0") + stop,
		"payload tagged":        "\xa3" + entryV + entryT + tstr("p") + "\xd8\x40" + bstr("\xa0"),
		"payload as integers":   "\xa3" + entryV + entryT + tstr("p") + ints("\xa0"),
		"integers, indefinite":  "\xa3" + entryV + entryT + tstr("p") + anyList + "\x18\xa0" + stop,
		"integers, tagged":      "\xa3" + entryV + entryT + tstr("p") + "\xd8\x40" + ints("\xa0"),
		"trailing bytes":        "\xa3" + entryV + entryT + entryP + "\xff\x00garbage",
		"tag before everything": "\xd9\xd9\xf7\xa3" + entryV + entryT + entryP,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, err := DecodeEnvelope([]byte(body))
			if err != nil || e.Generation != 5 || e.Type != TypePing || string(e.Payload) != "\xa0" {
				t.Errorf("got %+v, %v", e, err)
			}
		})
	}
}

// stopless is an indefinite list, to be skipped whole.
const stopless = anyList + anyBytes + stop + anyMap + stop + "\xf9\x7e\x00" + stop

func TestEnvelopeGenerations(t *testing.T) {
	t.Parallel()
	for gen := range 256 {
		body := appendEnvelopeHead(nil, Generation(gen), "x")
		e, err := DecodeEnvelope(append(body, "\x41\xa0"...))
		if err != nil || int(e.Generation) != gen || e.Type != "x" {
			t.Errorf("generation %d: %+v, %v", gen, e, err)
		}
	}
}

var badEnvelopes = map[string]struct {
	body string
	want error
}{
	"nothing":             {"", errTruncated},
	"not a map":           {listOf(), errNotMap},
	"null":                {null, errNotMap},
	"a break":             {stop, errBreak},
	"a tagged break":      {"\xc1" + stop, errBreak},
	"cut":                 {"\xa3" + entryV + entryT, errTruncated},
	"payload cut":         {"\xa3" + entryV + entryT + tstr("p") + "\x42\xa0", errTruncated},
	"endless map":         {anyMap + entryV + entryT + entryP, errTruncated},
	"no generation":       {"\xa2" + entryT + entryP, errMissing},
	"no type":             {"\xa2" + entryV + entryP, errMissing},
	"no payload":          {"\xa2" + entryV + entryT, errMissing},
	"generation 256":      {"\xa3" + tstr("v") + "\x19\x01\x00" + entryT + entryP, errRange},
	"generation -1":       {"\xa3" + tstr("v") + "\x20" + entryT + entryP, errNotInteger},
	"generation a float":  {"\xa3" + tstr("v") + "\xf9\x45\x00" + entryT + entryP, errNotInteger},
	"generation null":     {"\xa3" + tstr("v") + null + entryT + entryP, errNotInteger},
	"type as bytes":       {"\xa3" + entryV + tstr("t") + bstr("core.ping") + entryP, errNotText},
	"type not UTF-8":      {"\xa3" + entryV + tstr("t") + tstr("core.\xff") + entryP, errUTF8},
	"type too long":       {"\xa3" + entryV + tstr("t") + tstr(strings.Repeat("x", maxTypeName+1)) + entryP, errTextLength},
	"payload as text":     {"\xa3" + entryV + entryT + tstr("p") + tstr("\x20"), errNotBytes},
	"payload as map":      {"\xa3" + entryV + entryT + tstr("p") + mapOf(), errNotBytes},
	"payload null":        {"\xa3" + entryV + entryT + tstr("p") + null, errNotBytes},
	"integer 256":         {"\xa3" + entryV + entryT + tstr("p") + listOf("\x19\x01\x00"), errRange},
	"integer -1":          {"\xa3" + entryV + entryT + tstr("p") + listOf("\x20"), errRange},
	"two generations":     {"\xa4" + entryV + entryV + entryT + entryP, errDuplicate},
	"two types":           {"\xa4" + entryV + entryT + entryT + entryP, errDuplicate},
	"two payloads":        {"\xa4" + entryV + entryT + entryP + entryP, errDuplicate},
	"bad piece":           {"\xa3" + entryV + entryT + tstr("p") + anyBytes + tstr("") + stop, errChunk},
	"pieces in pieces":    {"\xa3" + entryV + entryT + tstr("p") + anyBytes + anyBytes + stop + stop, errChunk},
	"reserved head":       {"\xa4" + tstr("x") + "\x1c" + entryV + entryT + entryP, errReserved},
	"endless integer":     {"\xa4" + tstr("x") + "\x1f" + entryV + entryT + entryP, errReserved},
	"endless tag":         {"\xa4" + tstr("x") + "\xdf\x00" + entryV + entryT + entryP, errReserved},
	"simple below 32":     {"\xa4" + tstr("x") + "\xf8\x1f" + entryV + entryT + entryP, errReserved},
	"break for a value":   {anyMap + entryV + entryT + entryP + tstr("x") + stop, errBreak},
	"nested too deep":     {"\xa4" + tstr("x") + strings.Repeat("\x81", maxDepth) + "\x00" + entryV + entryT + entryP, errDepth},
	"deep and endless":    {"\xa4" + tstr("x") + strings.Repeat(anyList, 1<<20), errDepth},
	"tags without an end": {"\xa4" + tstr("x") + strings.Repeat("\xc1", 1<<20), errTruncated},
	"huge string":         {"\xa4" + tstr("x") + "\x5b\xff\xff\xff\xff\xff\xff\xff\xff", errTruncated},
	"huge array":          {"\xa4" + tstr("p") + "\x9b\xff\xff\xff\xff\xff\xff\xff\xff", errTruncated},
}

func TestEnvelopeRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range badEnvelopes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, err := DecodeEnvelope([]byte(c.body))
			var typed *EnvelopeError
			if !errors.As(err, &typed) || !errors.Is(err, c.want) {
				t.Errorf("got %+v, %v; want %v", e, err, c.want)
			}
		})
	}
}

func TestEnvelopeErrorKeepsWhatWasRead(t *testing.T) {
	t.Parallel()
	_, err := DecodeEnvelope([]byte("\xa3" + tstr("v") + "\x00" + tstr("t") + tstr("core.x") + tstr("p") + null))
	var e *EnvelopeError
	if !errors.As(err, &e) || !e.GenerationKnown || e.Generation != 0 || e.Type != "core.x" {
		t.Errorf("got %#v", err)
	}
	_, err = DecodeEnvelope([]byte("\xa1" + tstr("v") + "\x19\x01\x00"))
	if !errors.As(err, &e) || e.GenerationKnown || e.Type != "" {
		t.Errorf("got %#v", err)
	}
	if want := "decode envelope: v: number out of range"; err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
}

// TestRecordedBodies decodes what a JavaScript client sent.
func TestRecordedBodies(t *testing.T) {
	t.Parallel()
	for body, check := range map[string]func(Message) bool{
		"b90003617605617471636f72652e657865632e72657175657374617051b9000163636d64692f62696e2f74727565": func(m Message) bool {
			r, ok := m.(*ExecRequest)
			return ok && r.Cmd == "/bin/true" && r.Rows == 24 && r.Cols == 80 && !r.TTY && r.Args == nil
		},
		"b9000361760561746f636f72652e657865632e737464696e6170d8404db900016464617461d840426162": func(m Message) bool {
			r, ok := m.(*ExecStdin)
			return ok && string(r.Data) == "ab"
		},
	} {
		b, err := hex.DecodeString(body)
		must(t, err)
		e, err := DecodeEnvelope(b)
		must(t, err)
		m, err := Decode(e)
		must(t, err)
		if e.Generation != 5 || !check(m) {
			t.Errorf("%s decoded as %#v", body, m)
		}
	}
}

func TestDecodeEnvelopeAllocatesNothing(t *testing.T) {
	body, err := hex.DecodeString("a361760761746f636f72652e657865632e737464696e617049a16464617461426162")
	must(t, err)
	allocs := testing.AllocsPerRun(100, func() {
		if _, err := DecodeEnvelope(body); err != nil {
			t.Error(err)
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

func BenchmarkDecodeEnvelope(b *testing.B) {
	body, err := hex.DecodeString("a361760761746f636f72652e657865632e737464696e617049a16464617461426162")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeEnvelope(body); err != nil {
			b.Fatal(err)
		}
	}
}
