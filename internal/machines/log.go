package machines

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"time"
)

// A LogKind is one of a machine's logs.
type LogKind int

// The logs of a machine.
const (
	ConsoleLog LogKind = iota
	AgentLog           // The agent's lines of the console.
	OutputLog          // Of the machine's command.
	SupervisorLog
)

// logLook is how often to look for more: a person sees no difference to at once.
const logLook = 100 * time.Millisecond

// agentPrefix begins each line that the agent prints.
const agentPrefix = "agentd: "

// CopyLog writes a log; follow goes on until the machine's life or ctx ends. A log
// that has not begun is empty.
func (m *Machine) CopyLog(ctx context.Context, to io.Writer, kind LogKind, follow bool) (err error) {
	path := map[LogKind]string{ConsoleLog: m.Console(), AgentLog: m.Console(), OutputLog: m.Output(), SupervisorLog: m.Log()}[kind]
	if kind == ConsoleLog || kind == AgentLog {
		if file := m.record.Config.ConsoleFile; file != "" {
			path = file
		}
	}
	if kind == AgentLog {
		lines := &lineFilter{to: to, prefix: agentPrefix}
		defer func() { err = errors.Join(err, lines.flush()) }()
		to = lines
	}
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if !follow {
		_, err = io.Copy(to, f)
		return err
	}
	return m.follow(ctx, to, f)
}

// follow copies until the end of the machine's life, and what was written by then.
func (m *Machine) follow(ctx context.Context, to io.Writer, from io.Reader) error {
	tick := time.NewTicker(logLook)
	defer tick.Stop()
	for {
		alive, err := held(m.file(lifeName))
		if err != nil {
			return err
		}
		if _, err := io.Copy(to, from); err != nil || !alive {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil // ^C is how to end it.
		}
	}
}

// A lineFilter passes lines that begin with a prefix.
type lineFilter struct {
	to     io.Writer
	prefix string
	line   []byte // Without its end. A console's is short, or it is cut in the middle.
}

// lineBytes is the longest line that is kept together.
const lineBytes = 64 << 10

func (f *lineFilter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			f.line = append(f.line, p...)
			if len(f.line) > lineBytes {
				return n, f.flush()
			}
			return n, nil
		}
		f.line = append(f.line, p[:i+1]...)
		p = p[i+1:]
		if err := f.flush(); err != nil {
			return 0, err
		}
	}
	return n, nil
}

func (f *lineFilter) flush() error {
	line := f.line
	f.line = f.line[:0]
	if !bytes.HasPrefix(line, []byte(f.prefix)) {
		return nil
	}
	_, err := f.to.Write(line)
	return err
}
