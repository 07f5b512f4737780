package wire

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestIndex compares the message index with a copy of it that was written down
// apart from this package, row by row.
func TestIndex(t *testing.T) {
	t.Parallel()
	file, err := os.ReadFile("testdata/golden/index.txt")
	if err != nil {
		t.Fatal(err)
	}
	senders := map[Direction]string{HostToGuest: "host", GuestToHost: "guest", Both: "both"}
	var got strings.Builder
	got.WriteString("# type, who sends it, first generation, flags\n")
	for _, i := range Types() {
		fmt.Fprintf(&got, "%s %s %d %d\n", i.Type, senders[i.Direction], i.Since, i.Flags)
	}
	if got.String() != string(file) {
		t.Errorf("the index is\n%s\nwant\n%s", got.String(), file)
	}
}

func TestLookup(t *testing.T) {
	t.Parallel()
	for _, i := range Types() {
		if got, ok := Lookup(i.Type); !ok || got != i {
			t.Errorf("Lookup(%s) = %v, %v", i.Type, got, ok)
		}
	}
	for _, unknown := range []Type{"", "core", "core.ping ", "CORE.PING"} {
		if got, ok := Lookup(unknown); ok {
			t.Errorf("Lookup(%q) = %v", unknown, got)
		}
	}
}

func TestRowsMakeTheirOwnType(t *testing.T) {
	t.Parallel()
	for _, r := range rows {
		m := r.make()
		if m.Type() != r.Type {
			t.Errorf("the row of %s makes a %s", r.Type, m.Type())
		}
		if n := len(m.fields()); n > 32 {
			t.Errorf("%s has %d fields, more than a fieldSet", r.Type, n)
		}
	}
}
