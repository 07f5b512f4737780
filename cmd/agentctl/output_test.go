package main

import (
	"strings"
	"testing"
)

// What is drawn again and again fits its terminal, colors or not.
func TestScreen(t *testing.T) {
	const text = "\x1b[32m||||\x1b[0m 100%\nmöre of it\nlast\n"
	for _, tt := range []struct {
		size size
		want string
	}{
		{size{80, 24}, "\x1b[H\x1b[32m||||\x1b[0m 100%\x1b[K\nmöre of it\x1b[K\nlast\x1b[K\n\x1b[J"},
		{size{3, 3}, "\x1b[H\x1b[32m|||\x1b[0m\x1b[K\nmör\x1b[K\n\x1b[J"},
		{size{1, 1}, "\x1b[H\x1b[J"},
	} {
		if got := screen(text, tt.size); got != tt.want {
			t.Errorf("%v: %q, want %q", tt.size, got, tt.want)
		}
	}
}

func TestOwnTerm(t *testing.T) {
	t.Setenv("TERM", "ours")
	for _, tt := range []struct{ env, want string }{{"A=b", "A=b TERM=ours"}, {"TERM=given A=b", "TERM=given A=b"}} {
		if got := strings.Join(ownTerm(strings.Fields(tt.env)), " "); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.env, got, tt.want)
		}
	}
}
