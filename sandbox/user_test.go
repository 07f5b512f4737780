package sandbox_test

import (
	"testing"

	"github.com/agentd-go/agentd/sandbox"
)

func TestPlainUser(t *testing.T) {
	for spec, want := range map[string]string{
		"": "", ":": ":", "1000": "1000", "1000:": "1000", "web:": "web", ":0": "0:0", ":staff": "0:staff",
		"1000:0": "1000:0", "a:b:": "a:b:", " ": " ", " :0": " :0",
	} {
		if got := sandbox.PlainUser(spec); got != want {
			t.Errorf("%q is %q, want %q", spec, got, want)
		}
	}
}
