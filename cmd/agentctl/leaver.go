package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/agentd-go/agentd/client"
)

// usualKeys leave a kept command, as containers' tools have it.
const usualKeys = "ctrl-p,ctrl-q"

// keysHelp describes the flag for other keys.
const keysHelp = "the `KEYS` that leave a command on a terminal, which goes on"

// parseKeys reads keys in the form of containers' tools: with commas between them, each a
// character or ctrl- and one of a to z, @, [, \\, ], ^ and _.
func parseKeys(s string) (keys []byte, err error) {
	for word := range strings.SplitSeq(s, ",") {
		letter, control := strings.CutPrefix(strings.ToLower(word), "ctrl-")
		switch {
		case control && len(letter) == 1 && isControl(letter[0]):
			keys = append(keys, letter[0]&controlMask)
		case !control && len(word) == 1:
			keys = append(keys, word[0])
		default:
			return nil, misuse(fmt.Errorf("--detach-keys %q: %q is no key: want keys such as %s", s, word, usualKeys))
		}
	}
	return keys, nil
}

// controlMask is what the control key leaves of a letter (ascii(7)).
const controlMask = 31

// passKeys lets a command have the keys of our terminal, but for those that leave it.
func passKeys(c *client.Cmd, leaveBy []byte) error {
	pipe, err := c.StdinPipe()
	if err != nil {
		return err
	}
	keys := &leaver{from: os.Stdin, keys: leaveBy, leave: func() { _ = c.Detach() }} // Fails only if the command has ended.
	go func() { _, _ = io.Copy(pipe, keys) }()                                       // A read of a terminal cannot be interrupted.
	return nil
}

// A leaver reads keys and looks for those that leave.
type leaver struct {
	from  io.Reader
	keys  []byte
	leave func()
	held  []byte // A beginning of keys, which was not passed on yet.
}

// Read passes keys on. After the keys that leave it is the end of input that is never told:
// it blocks no one, since the command's client has left.
func (l *leaver) Read(p []byte) (int, error) {
	if len(p) <= len(l.held) {
		return 0, io.ErrShortBuffer
	}
	in := make([]byte, len(p)-len(l.held)) // Those that were held may come first.
	n, err := l.from.Read(in)
	out := p[:0]
	for _, key := range in[:n] {
		l.held = append(l.held, key)
		for !bytes.HasPrefix(l.keys, l.held) {
			out, l.held = append(out, l.held[0]), l.held[1:]
		}
		if len(l.held) == len(l.keys) {
			l.leave()
			return len(out), io.EOF
		}
	}
	return len(out), err
}

// isControl reports whether a terminal has a key for c with ctrl.
func isControl(c byte) bool {
	return c >= '@' && c <= '_' && (c < 'A' || c > 'Z') || c >= 'a' && c <= 'z'
}
