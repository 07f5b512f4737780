package machines

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"time"

	"github.com/agentd-go/agentd/wire/bootenv"
)

// A LogKind is one of a machine's logs.
type LogKind int

// The logs of a machine.
const (
	ConsoleLog LogKind = iota
	AgentLog           // The agent's lines of the console.
	OutputLog          // The output of the machine's command.
	SupervisorLog
)

func (k LogKind) String() string {
	return map[LogKind]string{ConsoleLog: "console", AgentLog: "agent", OutputLog: "command", SupervisorLog: "supervisor"}[k]
}

// IsAgent reports whether a line of the console is the agent's.
func IsAgent(line []byte) bool { return bytes.HasPrefix(line, []byte(bootenv.ConsolePrefix)) }

// logLook is the interval between looks for more output. A person does not notice this
// delay.
const logLook = 100 * time.Millisecond

// CopyLog copies a log to a writer. ([Machine.ReadOutput] reads the command's output.)
// With follow it continues until the machine's life or ctx ends. A log that does not
// exist yet is empty.
func (m *Machine) CopyLog(ctx context.Context, to io.Writer, kind LogKind, follow bool) (err error) {
	path := map[LogKind]string{ConsoleLog: m.Console(), AgentLog: m.Console(), SupervisorLog: m.Log()}[kind]
	if kind == ConsoleLog || kind == AgentLog {
		if file := m.record.Config.ConsoleFile; file != "" {
			path = file
		}
	}
	if kind == AgentLog {
		unfiltered := to
		lines := &Lines{Each: func(line []byte) (err error) {
			if IsAgent(line) {
				_, err = unfiltered.Write(line)
			}
			return err
		}}
		defer func() { err = errors.Join(err, lines.Flush()) }()
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
	read := func() error {
		_, err := io.Copy(to, f)
		return err
	}
	if !follow {
		return read()
	}
	return m.follow(ctx, read)
}

// follow calls read until the machine's life ends, and once more after that. A restart
// begins another life, which follow does not follow.
func (m *Machine) follow(ctx context.Context, read func() error) error {
	ended := make(chan error, 1)
	go func() {
		_, err := awaitEnd(ctx, m.file(lifeName))
		ended <- err
	}()
	tick := time.NewTicker(logLook)
	defer tick.Stop()
	for {
		if err := read(); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil // Users end it by ^C.
		case err := <-ended:
			if ctx.Err() != nil {
				return nil
			}
			return errors.Join(err, read())
		}
	}
}

// Lines calls Each with every complete line, including its newline. An incomplete line
// waits for the rest, or for Flush.
type Lines struct {
	Each func(line []byte) error // Must not keep it.
	line []byte
}

// lineBytes is the longest line that is passed in one piece.
const lineBytes = 64 << 10

func (l *Lines) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			l.line = append(l.line, p...)
			if len(l.line) > lineBytes {
				return n, l.Flush()
			}
			return n, nil
		}
		l.line = append(l.line, p[:i+1]...)
		p = p[i+1:]
		if err := l.Flush(); err != nil {
			return 0, err
		}
	}
	return n, nil
}

// Flush passes on an incomplete last line, if there is one.
func (l *Lines) Flush() error {
	line := l.line
	l.line = l.line[:0]
	if len(line) == 0 {
		return nil
	}
	return l.Each(line)
}
