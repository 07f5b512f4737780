package main

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// The keys that leave are not passed on; all others are, also the first of the two alone
// and twice, however the terminal splits them.
func TestLeaveKeys(t *testing.T) {
	const p, q = "\x10", "\x11"
	keys, err := parseKeys(usualKeys)
	if err != nil || string(keys) != p+q {
		t.Fatalf("%q, %v", keys, err)
	}
	for typed, want := range map[string]struct {
		passed string
		left   bool
	}{
		"ls\n":          {"ls\n", false},
		"":              {"", false},
		"a" + p + q:     {"a", true},
		p + q + "lost":  {"", true},
		p + "a":         {p + "a", false},
		p + p + q:       {p, true},
		p + p + "b":     {p + p + "b", false},
		q + p + "x" + q: {q + p + "x" + q, false},
		p:               {"", false}, // The terminal's end.
	} {
		for name, from := range map[string]io.Reader{
			"at once": strings.NewReader(typed), "key by key": iotest.OneByteReader(strings.NewReader(typed)), "by halves": iotest.HalfReader(strings.NewReader(typed)),
		} {
			left := 0
			got, err := io.ReadAll(&leaver{from: from, keys: keys, leave: func() { left++ }})
			if err != nil || string(got) != want.passed || (left == 1) != want.left || left > 1 {
				t.Errorf("%q %s: passed %q, left %d times, %v; want %q, %v", typed, name, got, left, err, want.passed, want.left)
			}
		}
	}
	full := &leaver{from: strings.NewReader("a"), keys: keys, held: keys[:1]}
	if _, err := full.Read(make([]byte, 1)); !errors.Is(err, io.ErrShortBuffer) {
		t.Errorf("a buffer without room: %v", err)
	}
}

// Other keys may leave, also those that begin like themselves.
func TestOtherLeaveKeys(t *testing.T) {
	for text, want := range map[string]string{"ctrl-a,d": "\x01d", "CTRL-@": "\x00", "a,a,b": "aab", "ctrl-]": "\x1d"} {
		if keys, err := parseKeys(text); err != nil || string(keys) != want {
			t.Errorf("%s: %q, %v", text, keys, err)
		}
	}
	for _, bad := range []string{"", "ctrl-", "ctrl-1", "ab", "a,,b", "ctrl-p,"} {
		if _, err := parseKeys(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	left := false
	got, err := io.ReadAll(&leaver{from: strings.NewReader("aaab"), keys: []byte("aab"), leave: func() { left = true }})
	if err != nil || string(got) != "a" || !left {
		t.Errorf("passed %q, %v, left %v", got, err, left)
	}
}
