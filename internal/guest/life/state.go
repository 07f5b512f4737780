package life

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/agentd-go/agentd/internal/guest/plan"
	"github.com/agentd-go/agentd/wire"
)

// A state has the facts of the boot that the second agent needs. It is written as words
// that end in NUL, each a key, '=' and a value. No value holds a NUL, since none in a plan
// does. An empty word ends the list; the input that was read ahead follows.
type state struct {
	started, init time.Duration
	generation    wire.Generation
	debug         string
	commands      plan.Commands
	limits        []plan.Limit
	remains       []string
	fresh, stored bool
	unread        []byte
}

func (e *state) encode() []byte {
	var b bytes.Buffer
	word := func(key, value string) { b.WriteString(key + "=" + value + "\x00") }
	word("started", number(int64(e.started)))
	word("init", number(int64(e.init)))
	word("generation", number(int64(e.generation)))
	word("debug", e.debug)
	word("fresh", strconv.FormatBool(e.fresh))
	word("stored", strconv.FormatBool(e.stored))
	word("user", e.commands.User)
	word("cwd", e.commands.Cwd)
	word("restricted", strconv.FormatBool(e.commands.Restricted))
	for _, entry := range e.commands.Env {
		word("env", entry)
	}
	for _, l := range e.limits {
		word("limit", fmt.Sprintf("%d %d %d", l.Resource, l.Soft, l.Hard))
	}
	for _, line := range e.remains {
		word("remains", line)
	}
	b.WriteByte(0)
	b.Write(e.unread)
	return b.Bytes()
}

func number(n int64) string { return strconv.FormatInt(n, 10) }

func decodeState(b []byte) (*state, error) {
	e := &state{}
	for {
		word, rest, found := bytes.Cut(b, []byte{0})
		if !found {
			return nil, fmt.Errorf("state: %d bytes without an end", len(b))
		}
		if b = rest; len(word) == 0 {
			e.unread = rest
			return e, nil
		}
		key, value, _ := strings.Cut(string(word), "=")
		if err := e.set(key, value); err != nil {
			return nil, fmt.Errorf("state: %s: %w", key, err)
		}
	}
}

func (e *state) set(key, value string) (err error) {
	switch key {
	case "started":
		err = duration(&e.started, value)
	case "init":
		err = duration(&e.init, value)
	case "generation":
		var g uint64
		g, err = strconv.ParseUint(value, 10, 8)
		e.generation = wire.Generation(g)
	case "debug":
		e.debug = value
	case "fresh":
		e.fresh, err = strconv.ParseBool(value)
	case "stored":
		e.stored, err = strconv.ParseBool(value)
	case "user":
		e.commands.User = value
	case "cwd":
		e.commands.Cwd = value
	case "restricted":
		e.commands.Restricted, err = strconv.ParseBool(value)
	case "env":
		e.commands.Env = append(e.commands.Env, value)
	case "limit":
		err = e.addLimit(strings.Fields(value))
	case "remains":
		e.remains = append(e.remains, value)
	default:
		err = fmt.Errorf("unknown word with the value %q", value)
	}
	return err
}

// addLimit adds a limit by its three numbers.
func (e *state) addLimit(words []string) (err error) {
	var n [3]uint64
	if len(words) != len(n) {
		return fmt.Errorf("%d numbers, want %d", len(words), len(n))
	}
	for i, word := range words {
		if n[i], err = strconv.ParseUint(word, 10, 64); err != nil {
			return err
		}
	}
	e.limits = append(e.limits, plan.Limit{Resource: plan.Resource(n[0]), Soft: n[1], Hard: n[2]})
	return nil
}

func duration(d *time.Duration, value string) error {
	n, err := strconv.ParseInt(value, 10, 64)
	*d = time.Duration(n)
	return err
}
