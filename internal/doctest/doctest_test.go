package doctest

import (
	"slices"
	"testing"
	"time"
)

const document = `# Title
## 1. One
| A | B |
| --- | --- |
| x | 64 KiB |
### 1.1 Sub
at most
4 MiB
### 1.12 Other
no
## 2. Two
end
`

// A section ends at the next heading of its level, and "1.1" is not "1.12".
func TestBelow(t *testing.T) {
	t.Parallel()
	for heading, want := range map[string]string{
		"1.1": "at most 4 MiB", "1.12": "no", "2": "end", "Two": "", "3": "",
	} {
		if got := folded(below(document, heading)); got != want {
			t.Errorf("%q: %q, want %q", heading, got, want)
		}
	}
	s := Section{text: below(document, "1")}
	s.Says(t, "at most 4 MiB", "no")
	if rows := s.Rows(2); len(rows) != 2 || !slices.Equal(rows[1], []string{"x", Size(64 << 10)}) {
		t.Errorf("rows %q", rows)
	}
}

func TestUnits(t *testing.T) {
	t.Parallel()
	for got, want := range map[string]string{
		Size(100): "100 bytes", Size(1 << 30): "1 GiB", Size(3 << 20): "3 MiB", Size(1536): "1536 bytes",
		Time(3 * time.Millisecond): "3 ms", Time(time.Minute): "60 s", Count(1024): "1,024", Count(16384000): "16,384,000", Count(9): "9",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
