package wire

import (
	"bytes"
	"errors"
	"strconv"
	"testing"

	"github.com/agentd-go/agentd/wire/frame"
)

// dataMessages make the messages that PutDataHead writes.
var dataMessages = map[Type]func([]byte) Message{
	TypeExecStdin:  func(p []byte) Message { return &ExecStdin{p} },
	TypeExecStdout: func(p []byte) Message { return &ExecStdout{p} },
	TypeExecStderr: func(p []byte) Message { return &ExecStderr{p} },
	TypeFSData:     func(p []byte) Message { return &FSData{p} },
	TypeTCPData:    func(p []byte) Message { return &TCPData{p} },
}

func TestPutDataHeadEqualsAppendFrame(t *testing.T) {
	t.Parallel()
	b := bytes.Repeat([]byte{0xa5}, DataHead+MaxData)
	for typ, message := range dataMessages {
		for _, gen := range []Generation{0, Newest, 23, 24, 255} {
			for _, n := range []int{0, 1, 16, 17, 18, 23, 24, 248, 249, 255, 256, 65526, 65527, 65535, 65536, MaxData} {
				want, err := AppendFrame(nil, gen, 77, message(b[DataHead:DataHead+n]))
				must(t, err)
				start := PutDataHead(b, gen, 77, typ, n)
				if !bytes.Equal(b[start:DataHead+n], want) {
					t.Errorf("%s, generation %d, %d bytes: head %x, want %x", typ, gen, n, b[start:DataHead], want[:DataHead-start])
				}
			}
		}
	}
}

func TestLongestDataHead(t *testing.T) {
	t.Parallel()
	longest := 0
	b := make([]byte, DataHead+MaxData)
	for typ := range dataMessages {
		longest = max(longest, DataHead-PutDataHead(b, 255, 1, typ, MaxData))
	}
	if longest != 51 || 4+frame.MaxLength != longest+MaxData {
		t.Errorf("the longest prefix has %d bytes; with MaxData that is %d", longest, longest+MaxData)
	}
}

func TestPutDataHeadRefusesTooMuch(t *testing.T) {
	t.Parallel()
	for name, call := range map[string]func(){
		"more than MaxData":   func() { PutDataHead(make([]byte, frame.MaxLength+DataHead), 7, 1, TypeFSData, MaxData+1) },
		"more than there is":  func() { PutDataHead(make([]byte, DataHead+1)[:DataHead+1:DataHead+1], 7, 1, TypeFSData, 2) },
		"less than no data":   func() { PutDataHead(make([]byte, DataHead), 7, 1, TypeFSData, -1) },
		"no room for a head ": func() { PutDataHead(make([]byte, DataHead-1), 7, 1, TypeFSData, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			defer func() {
				if recover() == nil {
					t.Error("made a frame")
				}
			}()
			call()
		})
	}
}

func TestPutDataHeadAllocatesNothing(t *testing.T) {
	b := make([]byte, DataHead+4096)
	allocs := testing.AllocsPerRun(100, func() { PutDataHead(b, Newest, 1, TypeExecStdout, 4096) })
	if allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

func TestDataOf(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		payload string
		shared  bool
	}{
		"as emitted":         {mapOf("data", bstr("ab")), true},
		"as JavaScript does": {"\xb9\x00\x01" + tstr("data") + "\xd8\x40" + bstr("ab"), true},
		"tagged":             {mapOf("data", "\xd8\x40"+bstr("ab")), true},
		"trailing bytes":     {mapOf("data", bstr("ab")) + "x", true},
		"another field":      {mapOf("x", null, "data", bstr("ab")), false},
		"field after":        {mapOf("data", bstr("ab"), "x", null), false},
		"in pieces":          {mapOf("data", anyBytes+bstr("ab")+stop), false},
		"as integers":        {mapOf("data", ints("ab")), false},
		"indefinite map":     {anyMap + tstr("data") + bstr("ab") + stop, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			payload := []byte(c.payload)
			got, err := DataOf(Envelope{Type: TypeFSData, Payload: payload})
			if err != nil || string(got) != "ab" {
				t.Fatalf("got %q, %v", got, err)
			}
			clear(payload)
			if shared := string(got) != "ab"; shared != c.shared {
				t.Errorf("shares the payload: %v, want %v", shared, c.shared)
			}
		})
	}
}

func TestDataOfRefuses(t *testing.T) {
	t.Parallel()
	for name, payload := range map[string]string{
		"no field":  mapOf(),
		"text":      mapOf("data", tstr("ab")),
		"cut":       mapOf("data", "\x43ab"),
		"null":      null,
		"nothing":   "",
		"tag alone": mapOf("data", "\xd8\x40"),
		"twice":     mapOf("data", bstr(""), "data", bstr("")),
	} {
		_, err := DataOf(Envelope{Type: TypeFSData, Payload: []byte(payload)})
		var typed *PayloadError
		if !errors.As(err, &typed) || typed.Type != TypeFSData {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDataOfAllocatesNothing(t *testing.T) {
	e := Envelope{Type: TypeFSData, Payload: []byte(mapOf("data", "\xd8\x40"+bstr("ab")))}
	allocs := testing.AllocsPerRun(100, func() {
		if _, err := DataOf(e); err != nil {
			t.Error(err)
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

func BenchmarkPutDataHead(b *testing.B) {
	for _, n := range []int{4096, 65536} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			buf := make([]byte, DataHead+n)
			b.ReportAllocs()
			for b.Loop() {
				PutDataHead(buf, Newest, 1, TypeExecStdout, n)
			}
		})
	}
}

func BenchmarkAppendFrame(b *testing.B) {
	buf := make([]byte, 0, 128)
	m := &ExecExited{Code: 3}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := AppendFrame(buf, Newest, 1, m); err != nil {
			b.Fatal(err)
		}
	}
}
