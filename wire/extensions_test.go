package wire

import (
	"reflect"
	"testing"

	"github.com/agentd-go/agentd/wire/frame"
)

// extensionMessages are messages with all fields of the alternatives that only extensions have.
func extensionMessages() []Message {
	return []Message{
		&FSRequest{Op: &OpPack{Path: "/p"}},
		&FSRequest{Op: &OpPack{
			Path: "/p", Names: []string{"a", "b/c"}, After: "a", Exclude: []string{"*.o"},
			Bare: true, Xattrs: true, Links: true, Devices: true, OneDevice: true,
		}},
		&FSRequest{Op: &OpUnpack{Path: "/p"}},
		&FSRequest{Op: &OpUnpack{Path: "/p", Owners: true, Xattrs: true, Devices: true, Replace: true}},
		&FSRequest{Op: &OpCall{Call: CallSetXattr, Path: "/a", FollowSymlink: true, Other: "user.a", Value: []byte{0, 1}}},
		&FSRequest{Op: &OpFileCall{Call: CallLockShared, Handle: 7, Wait: MaxLockWait}},
		&FSRequest{Op: &OpWatch{Path: "/a", Recursive: true, Exclude: []string{"*.o"}}},
		&FSRequest{Op: &OpStat{Path: "/a", Exact: true}},
		&FSRequest{Op: &OpFStat{Handle: 7, Exact: true}},
		&FSRequest{Op: &OpReadDir{Handle: 7, Exact: true}},
		&FSRequest{Op: &OpSetStat{Path: "/a", Attrs: FSAttrs{Mtime: new(int64), AtimeNsec: new(uint32), MtimeNsec: new(uint32)}}},
		&FSResponse{OK: true, Data: &ResultCall{Value: []byte("v"), Numbers: []uint64{0, 1 << 63}}},
		&FSResponse{OK: true, Data: &ResultStat{Entry: FSEntry{Path: "/a", Kind: EntryFile, Exact: []uint64{1, 2, 3}}}},
		&TCPConnect{Unix: "/run/s"},
		&TCPConnect{Host: "::1", Port: 80, Listen: NetTCP6},
		&TCPConnect{Host: "::1", Port: 53, UDP: true},
		&TCPConnect{Listener: new(uint32(7))},
		&TCPConnected{Local: "127.0.0.1:80", Remote: "[::1]:1"},
		&TCPClose{Reset: true},
		&FSResponse{OK: true, Data: &ResultArchive{
			Entries: 1, Bytes: 1 << 40, More: 3, Problems: []ArchiveProblem{{Op: "open", Name: "a", Error: "b"}},
		}},
	}
}

// encoded is the payload of a message.
func encoded(tb testing.TB, m Message) []byte {
	tb.Helper()
	b, err := AppendFrame(nil, Newest, 1, m)
	if err != nil {
		tb.Fatal(err)
	}
	e, err := DecodeEnvelope(b[frame.HeaderSize:])
	if err != nil {
		tb.Fatal(err)
	}
	return e.Payload
}

func TestExtensionRoundTrip(t *testing.T) {
	t.Parallel()
	ops, results := map[string]bool{}, map[string]bool{}
	for _, m := range extensionMessages() {
		got, err := Decode(Envelope{Type: m.Type(), Payload: encoded(t, m)})
		if err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("%+v became %+v, %v", m, got, err)
		}
		switch m := m.(type) {
		case *FSRequest:
			if name, _ := m.Op.op(); fsExtensions.find(name) != nil {
				ops[name] = true
			}
		case *FSResponse:
			if name, _ := m.Data.result(); fsExtensionResults.find(name) != nil {
				results[name] = true
			}
		}
	}
	if len(ops) != len(fsExtensions) || len(results) != len(fsExtensionResults) {
		t.Errorf("%d operations of %d, %d results of %d", len(ops), len(fsExtensions), len(results), len(fsExtensionResults))
	}
}
