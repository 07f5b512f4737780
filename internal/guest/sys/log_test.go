package sys

import "testing"

func TestLogLine(t *testing.T) {
	for raw, want := range map[string]string{
		"e virtiofs: tag <x> not found\n": "virtiofs: tag <x> not found",
		"e erofs: cannot find":            "erofs: cannot find",
		"w ext4: mounting unchecked":      "ext4: mounting unchecked",
		"i info":                          "info",
		"without a level":                 "without a level",
		"":                                "",
	} {
		if got := logLine(raw); got != want {
			t.Errorf("%q is %q, want %q", raw, got, want)
		}
	}
}
