package main

import (
	"encoding/json"
	"strings"
	"testing"
	"text/tabwriter"
	"unicode"
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

// Texts from outside come to a terminal without what could control it: escapes (C0 and
// C1, as UTF-8 and as bytes), changes of the direction of writing, ends of lines.
func TestHostileText(t *testing.T) {
	const text = "a\x1b[31m\x07\x00\x7f\u009b2J\x9b2J\u202e\u2066\u200b\u2028\U000e0001\r\nb"
	check := func(what, got string, want ...rune) {
		t.Helper()
		for _, r := range got {
			if !unicode.IsPrint(r) && !strings.ContainsRune(string(want), r) {
				t.Errorf("%s has %q: %q", what, r, got)
			}
		}
		if !strings.Contains(got, "a") || !strings.Contains(got, "b") {
			t.Errorf("%s: %q", what, got)
		}
	}
	var b strings.Builder
	if err := writeJSON(&b, map[string]string{text: text}); err != nil {
		t.Fatal(err)
	}
	check("JSON", b.String(), '\n')
	var back map[string]string
	valid := strings.ToValidUTF8(text, "\ufffd")
	if err := json.Unmarshal([]byte(b.String()), &back); err != nil || back[valid] != valid {
		t.Errorf("JSON is %q, %v", back, err)
	}
	b.Reset()
	w := tabwriter.NewWriter(&b, 0, 0, 1, ' ', 0)
	row(w, text, "next")
	_ = w.Flush()
	check("a row", strings.TrimSuffix(b.String(), "\n"))
	for _, format := range []string{"{{.Label \"k\"}}", "{{.Labels}}", "table {{.Labels}}", "{{json .}}", "json", "{{.labels.k}}"} {
		b.Reset()
		as, err := parseFormat(format)
		if err != nil {
			t.Fatal(err)
		}
		view := psView{machineLine{Labels: map[string]string{"k": text}}}
		if err := as.each(&b, []any{view}, psHead{}); err != nil {
			t.Fatal(err)
		}
		check(format, b.String(), '\n')
	}
}
