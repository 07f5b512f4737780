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
	// measured) with an oops of all CPUs behind it.
	consoleTail = 64 << 10

	// consoleFile bounds what a guest that prints for ever can take on disk: the
	// file keeps the first 4 MiB (every boot message and a hundred thousand
	// lines more), the end comes from the tail.
	consoleFile = 4 << 20

	// consoleRead is what one read takes. QEMU writes whole lines at most.
	consoleRead = 4 << 10

	// consoleDrain is how long the console may take to its end once QEMU is gone:
	// only what lies in the socket is left to read.
	consoleDrain = 2 * time.Second
)

// A console takes what the guest prints. It always reads, so that a guest never
// waits for it, and keeps a bounded part.
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
	// The machine is gone, or drain has closed the link: nothing can be done
	// about an error, and the console's text is what counts.
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

// drain waits until the pump has read everything, but not for ever: some other
// process might hold the link, or the tap might block.
func (c *console) drain(link io.Closer) {
	select {
	case <-c.done:
	case <-time.After(consoleDrain):
		_ = link.Close() // The pump ends by it; there is nothing left to save.
	}
}

// A consoleLog is a file with the beginning of the console and, once closed, its end.
type consoleLog struct {
	f       *os.File
	left    int
	dropped int
}

// write keeps what fits. A file that cannot be written is a full disk at worst:
// no reason to end the machine, whose tail is still in memory.
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

// close puts the end behind what was kept. end is what was printed last.
func (l *consoleLog) close(end []byte) error {
	if l.dropped == 0 {
		return l.f.Close()
	}
	end = end[max(0, len(end)-l.dropped):]
	_, err := fmt.Fprintf(l.f, "\n[%d bytes left out]\n%s", l.dropped-len(end), end)
	return errors.Join(err, l.f.Close())
}
