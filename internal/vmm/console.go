package vmm

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

const (
	// consoleTail holds the whole boot of a stock kernel that is not quiet (40 KiB
	// measured), followed by an oops of all CPUs.
	consoleTail = 64 << 10

	// consoleFile bounds the disk use of a guest that prints for ever. The file keeps
	// the first 4 MiB (every boot message and a hundred thousand lines more), and the
	// tail supplies the end.
	consoleFile = 4 << 20

	// consoleRead is the size of one read. QEMU writes at most a line at once.
	consoleRead = 4 << 10

	// consoleDrain is how long the rest of the console may take after the end of QEMU:
	// only the socket's buffer is left to read.
	consoleDrain = 2 * time.Second
)

// A console receives the guest's console output. It always reads, so that the guest
// never waits for it, and keeps a bounded part.
type console struct {
	tail *tail
	log  *consoleLog // nil for none
	tap  io.Writer   // nil for none, or after its first error
	done chan struct{}
}

func newConsole(o Options) (*console, error) {
	c := &console{tail: newTail(consoleTail), tap: o.Console, done: make(chan struct{})}
	if o.ConsoleFile == "" {
		return c, nil
	}
	f, err := os.OpenFile(o.ConsoleFile, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("console file: %w", err)
	}
	c.log = &consoleLog{f: f, left: consoleFile}
	return c, nil
}

// interruption is a line of the console of a machine that was taken over.
const interruption = "\r\n[agentctl: nobody read the console for a while before this]\r\n"

// continueConsole goes on with the file of the process that had the machine before.
func continueConsole(o Options) (*console, error) {
	c := &console{tail: newTail(consoleTail), tap: o.Console, done: make(chan struct{})}
	if o.ConsoleFile == "" {
		return c, nil
	}
	f, err := os.OpenFile(o.ConsoleFile, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("console file: %w", err)
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = io.Copy(c.tail, io.NewSectionReader(f, max(0, size-consoleTail), consoleTail))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("console file: %w", err), f.Close())
	}
	c.log = &consoleLog{f: f, left: int(max(0, consoleFile-size))}
	c.take([]byte(interruption))
	return c, nil
}

// pump copies from the machine until it ends, then completes the file.
func (c *console) pump(from io.ReadCloser) {
	defer close(c.done)
	buf := make([]byte, consoleRead)
	for {
		n, err := from.Read(buf)
		c.take(buf[:n])
		if err != nil {
			break
		}
	}
	// The machine has ended, or drain has closed the link. Errors are ignored, because
	// only the text counts.
	_ = errors.Join(from.Close(), c.close())
}

func (c *console) take(p []byte) {
	_, _ = c.tail.Write(p) // Never fails.
	if c.log != nil {
		c.log.write(p)
	}
	if c.tap != nil {
		if _, err := c.tap.Write(p); err != nil {
			c.tap = nil
		}
	}
}

func (c *console) close() error {
	if c.log == nil {
		return nil
	}
	return c.log.close(c.tail.Bytes())
}

// drain waits until the pump has read everything, at most consoleDrain: another process
// could hold the link, or the tap could block.
func (c *console) drain(link io.Closer) {
	select {
	case <-c.done:
	case <-time.After(consoleDrain):
		_ = link.Close() // Ends the pump; there is nothing left to save.
	}
}

// A consoleLog is a file with the beginning of the console and, once closed, its end.
type consoleLog struct {
	f       *os.File
	left    int
	dropped int
}

// write keeps the bytes that fit. It ignores errors: a full disk must not end the
// machine, and the tail is still in memory.
func (l *consoleLog) write(p []byte) {
	n := min(len(p), l.left)
	l.left -= n
	l.dropped += len(p) - n
	if n == 0 {
		return
	}
	if _, err := l.f.Write(p[:n]); err != nil {
		l.left = 0
	}
}

// close appends the end of the console to the file.
func (l *consoleLog) close(end []byte) error {
	if l.dropped == 0 {
		return l.f.Close()
	}
	end = end[max(0, len(end)-l.dropped):]
	_, err := fmt.Fprintf(l.f, "\n[%d bytes left out]\n%s", l.dropped-len(end), end)
	return errors.Join(err, l.f.Close())
}
