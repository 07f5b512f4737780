package wire

import (
	"slices"
	"strings"
	"testing"
)

// A name is found among the names of the message, and only among as many as are looked at.
func TestHasExtension(t *testing.T) {
	t.Parallel()
	long := slices.Repeat([]string{"x"}, MaxExtensions)
	for _, tt := range []struct {
		all  []string
		want bool
	}{
		{nil, false},
		{[]string{"kept"}, true},
		{[]string{"archive", "kept", "watch"}, true},
		{[]string{"keptt", "kep", "KEPT", ""}, false},
		{append(slices.Clone(long[1:]), "kept"), true},
		{append(slices.Clone(long), "kept"), false},
	} {
		if got := (&Ready{Extensions: tt.all}).HasExtension(ExtensionKept); got != tt.want {
			t.Errorf("%q: %v", tt.all, got)
		}
	}
}

// Without extensions the message is byte for byte what it was before there were any.
func TestReadyWithoutExtensions(t *testing.T) {
	t.Parallel()
	b, err := AppendFrame(nil, Newest, 0, &Ready{BootTimeNS: 1})
	if err != nil || strings.Contains(string(b), "extensions") {
		t.Errorf("%q, %v", b, err)
	}
}

// A name is short, and has no letters that need quotes.
func TestExtensionNames(t *testing.T) {
	t.Parallel()
	for _, name := range []string{ExtensionArchive, ExtensionFiles, ExtensionKept, ExtensionLimits, ExtensionListen, ExtensionUDP, ExtensionUnix, ExtensionWatch} {
		if name == "" || len(name) > MaxExtensionName || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz") != "" {
			t.Errorf("%q", name)
		}
	}
}
