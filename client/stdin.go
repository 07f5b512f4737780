package client

import (
	"errors"
	"io"
	"io/fs"
	"syscall"

	"github.com/agentd-go/agentd/internal/mux"
	"github.com/agentd-go/agentd/wire"
)

const (
	// stdinChunk is how much input goes into one frame: as much as one quantum
	// of the writer, which is one write to a virtio port. Agents take up to 4 MiB, but
	// nothing can pass a frame that has begun to leave, and the outbox, which
	// holds two of these, fills one while the other is written.
	stdinChunk = mux.Quantum - wire.DataHead

	// pipeLimit is what a StdinPipe holds, with the cost of its chunks: a Linux
	// pipe's default capacity of 64 KiB, written by chunkCost bytes or more.
	pipeLimit = 128 << 10

	// terminalEOF is the end of input to a terminal in its initial mode, at the beginning
	// of a line (termios: VEOF).
	terminalEOF = '\x04'
)

// input sends one command's stdin.
type input struct {
	p        *process
	terminal bool
	midLine  bool // What was sent last is not the end of a line.
}

// copyFrom sends the bytes of r, then the end of input. It returns only errors of r: a
// command that takes no more input is no error.
func (in *input) copyFrom(r io.Reader) error {
	defer in.end()
	buf := make([]byte, wire.DataHead+stdinChunk)
	for {
		n, err := r.Read(buf[wire.DataHead:])
		if n > 0 {
			buf = in.send(buf, n)
		}
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		case buf == nil:
			return nil // The command takes no more.
		}
	}
}

// send sends the n bytes after the head's room, and returns a buffer for the next ones, or
// nil if the command takes no more. A frame keeps its memory until it has left, so small
// pieces are copied to memory of their size.
func (in *input) send(buf []byte, n int) []byte {
	in.midLine = buf[wire.DataHead+n-1] != '\n'
	if b := in.p.back; b != nil {
		if !b.input.append(buf[wire.DataHead:][:n]) {
			return nil
		}
		return buf
	}
	out, next := buf, buf
	if n < stdinChunk/2 {
		out = make([]byte, wire.DataHead+n)
		copy(out[wire.DataHead:], buf[wire.DataHead:][:n])
	} else {
		next = make([]byte, len(buf))
	}
	s := in.p.at.Load()
	start := wire.PutDataHead(out, own, s.id, wire.TypeExecStdin, n)
	if s.in.Send(out[start:wire.DataHead+n]) != nil {
		return nil
	}
	return next
}

// end ends the input. For a terminal it sends a character instead of a frame: one ends a
// line that has begun, the next ends the input.
func (in *input) end() {
	var last []byte
	if in.terminal {
		last = append(last, terminalEOF)
		if in.midLine {
			last = append(last, terminalEOF)
		}
	}
	if b := in.p.back; b != nil {
		if b.input.append(last) && !in.terminal {
			b.input.end()
		}
		return
	}
	s := in.p.at.Load()
	if b, err := s.client.encode(s.id, &wire.ExecStdin{Data: last}); err == nil {
		_ = s.in.Send(b) // Fails only if the command takes no more.
	}
}

// stdinPipe is the caller's end of a StdinPipe.
type stdinPipe struct{ s *stream }

// Write waits while the pipe is full, and returns EPIPE when the command has
// closed its input or ended.
func (w stdinPipe) Write(b []byte) (int, error) {
	for n := 0; n < len(b); {
		piece := b[n:min(n+stdinChunk, len(b))]
		if !w.s.push(append([]byte(nil), piece...)) {
			return n, w.why()
		}
		n += len(piece)
	}
	return len(b), nil
}

func (w stdinPipe) why() error {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	if w.s.end != nil {
		return fs.ErrClosed
	}
	return syscall.EPIPE
}

// Close ends the input after the bytes that were written.
func (w stdinPipe) Close() error {
	w.s.finish(io.EOF)
	return nil
}

// pipeError hides that a StdinPipe was closed because the command has ended.
func pipeError(err error) error {
	if errors.Is(err, fs.ErrClosed) {
		return nil
	}
	return err
}
