package raw_test

import (
	"reflect"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/agentd-go/agentd/shim/internal/raw"
)

func TestReadsWhatProtobufWrites(t *testing.T) {
	b, err := proto.Marshal(&anypb.Any{TypeUrl: "url", Value: []byte{1, 2}})
	if err != nil {
		t.Fatal(err)
	}
	m, err := raw.Parse(b)
	if err != nil || m.Text(1) != "url" || !reflect.DeepEqual(m.Bytes(2), []byte{1, 2}) || m.Has(3) || m.Number(9) != 0 {
		t.Errorf("%+v, %v", m, err)
	}
	var back anypb.Any
	if err := proto.Unmarshal(raw.AppendText(raw.AppendText(nil, 1, "url"), 2, []byte{1, 2}), &back); err != nil || back.GetTypeUrl() != "url" {
		t.Errorf("%v, %v", &back, err)
	}
	var value structpb.Value
	if err := proto.Unmarshal(raw.AppendNumber(nil, 4, 1), &value); err != nil || !value.GetBoolValue() {
		t.Errorf("%v, %v", &value, err)
	}
}

// The last value of a field counts, and fields of other kinds are passed over.
func TestLastValueCounts(t *testing.T) {
	b := raw.AppendText(raw.AppendText(nil, 1, "a"), 1, "b")
	b = protowire.AppendFixed64(protowire.AppendTag(b, 7, protowire.Fixed64Type), 5)
	m, err := raw.Parse(raw.AppendNumber(b, 2, 3))
	if err != nil || m.Text(1) != "b" || !reflect.DeepEqual(m.Texts(1), []string{"a", "b"}) || m.Number(2) != 3 {
		t.Errorf("%+v, %v", m, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("\x0a\x03url\x10\x01"))
	f.Add([]byte("\x0a\xff"))
	f.Fuzz(func(_ *testing.T, b []byte) {
		m, err := raw.Parse(b)
		if err != nil {
			return
		}
		for n := range protowire.Number(16) {
			_, _ = m.Map(n)
			_, _ = m.Message(n)
		}
	})
}
