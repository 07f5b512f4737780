package life

import (
	"reflect"
	"testing"
	"time"

	"github.com/agentd-go/agentd/internal/guest/plan"
	"github.com/agentd-go/agentd/internal/guest/sys"
	"github.com/agentd-go/agentd/wire/bootenv"
)

func TestState(t *testing.T) {
	for name, e := range map[string]*state{
		"empty": {},
		"full": {
			started: 3 * time.Second, init: 40 * time.Millisecond, generation: 7, debug: "boot,plan", fresh: true,
			commands: plan.Commands{User: "a:b", Cwd: "/x y\n", Env: []string{"A=", "B=c=d\n"}, Restricted: true},
			limits:   []plan.Limit{{Resource: 7, Soft: 1, Hard: plan.Infinity}},
			remains:  []string{"mount:/.msb", "pin:", "pin:/a b"},
			unread:   []byte{0, 0, 'x', 0},
		},
	} {
		b := e.encode()
		got, err := decodeState(b)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if len(got.unread) == 0 {
			got.unread = nil
		}
		if !reflect.DeepEqual(got, e) {
			t.Errorf("%s: got %+v, want %+v", name, got, e)
		}
		for n := range len(b) - len(e.unread) {
			if _, err := decodeState(b[:n]); err == nil {
				t.Errorf("%s: the first %d bytes of %d pass", name, n, len(b))
			}
		}
	}
}

func TestStateRejects(t *testing.T) {
	for _, words := range []string{"", "x=1\x00\x00", "limit=1\x00\x00", "started=x\x00\x00", "generation=256\x00\x00", "restricted=2\x00\x00"} {
		if e, err := decodeState([]byte(words)); err == nil {
			t.Errorf("%q: got %+v", words, e)
		}
	}
}

// Hosts know the agent's lines on the console by their beginning.
func TestLogPrefix(t *testing.T) {
	if sys.LogPrefix != bootenv.ConsolePrefix {
		t.Errorf("lines begin with %q, hosts look for %q", sys.LogPrefix, bootenv.ConsolePrefix)
	}
}
