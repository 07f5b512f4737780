package sandbox_test

import (
	"strings"
	"testing"

	"github.com/agentd-go/agentd/sandbox"
)

// A user that is not there is a line; whatever else comes with the console.
func TestBootErrorIsShortForNames(t *testing.T) {
	for failure, lines := range map[string]int{"user_not_found": 1, "group_not_found": 1, "unknown": 5, "": 5} {
		e := &sandbox.BootError{Reason: "no such user: bob", Failure: failure, Console: "line", Command: "qemu"}
		if got := strings.Count(e.Error(), "\n") + 1; got != lines || !strings.Contains(e.Error(), "bob") {
			t.Errorf("%q: %d lines, want %d:\n%s", failure, got, lines, e.Error())
		}
	}
}
