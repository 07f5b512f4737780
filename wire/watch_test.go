package wire

import (
	"bytes"
	"strings"
	"testing"
)

// Events are read as they were written, also when they come in pieces.
func TestWatchEvents(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("n", 4095)
	all := []WatchEvent{
		{Kind: WatchReady, Dir: true, Name: "."},
		{Kind: WatchRename, Name: "a/b", Old: "\xff"},
		{Kind: WatchRename, Name: long, Old: long},
		{Kind: WatchOverflow, Name: "."},
	}
	var b []byte
	for i := range all {
		b = AppendWatchEvent(b, &all[i])
	}
	for _, want := range all {
		for n := range min(len(b), 8) {
			if _, _, ok, err := ParseWatchEvent(b[:n][:min(n, 4)]); ok || err != nil {
				t.Errorf("%d bytes: %v, %v", n, ok, err)
			}
		}
		got, rest, ok, err := ParseWatchEvent(b)
		if !ok || err != nil || got != want {
			t.Fatalf("%+v, %v, %v", got, ok, err)
		}
		b = rest
	}
	for _, bad := range []string{"\x00\x00", "\x00\x02cf", "\xff\xff", "\x00\x04rfab", "\x00\x04cfa\x00", "\x00\x04rfa\x00", "\x00\x06rfa\x00b\x00"} {
		if e, _, ok, err := ParseWatchEvent([]byte(bad)); ok || err == nil {
			t.Errorf("%q: %+v", bad, e)
		}
	}
}

func FuzzWatchEvent(f *testing.F) {
	f.Add(AppendWatchEvent(nil, &WatchEvent{Kind: WatchRename, Dir: true, Name: "a", Old: "b"}))
	f.Add(AppendWatchEvent(nil, &WatchEvent{Kind: WatchCreate, Name: "a"}))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, rest, ok, err := ParseWatchEvent(b)
		if !ok || err != nil {
			return
		}
		whole := b[:len(b)-len(rest)]
		again := AppendWatchEvent(nil, &e)
		if again[3] = whole[3]; !bytes.Equal(again, whole) { // Any type but d is that of a file.
			t.Errorf("%x became %x", whole, again)
		}
	})
}
