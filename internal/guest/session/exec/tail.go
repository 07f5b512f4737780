package exec

import (
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/agentd-go/agentd/internal/guest/sys"
)

// The end of a command is reported when its outputs have ended. But a process that
// outlives the command may hold an output open for as long as it lives. So an output
// counts as ended soon after the command's end.
const (
	// tailSilence is how long an output must be silent to count as ended. The rest of a
	// pipeline's output follows within milliseconds. Clients wait 10 s for the end of a
	// command that they killed.
	tailSilence = 5 * time.Second

	// tailMost is the time after which an output counts as ended without such a silence,
	// as soon as it is empty. A process that still writes then is a service, not part of
	// the command.
	tailMost = time.Minute

	// tailRest is the most that is read after tailMost: the largest pipe
	// (/proc/sys/fs/pipe-max-size), so that everything written in time is sent.
	tailRest = 1 << 20

	// tailGlance is how long a read after tailMost may wait.
	tailGlance = 10 * time.Millisecond
)

// maxLeft bounds the outputs that are drained for processes that outlive their command.
// Each costs a descriptor. Further outputs are closed, and their writers get SIGPIPE.
const maxLeft = 128

// A tail reads one output of a command, and ends soon after the command at the latest.
type tail struct {
	file     *os.File
	from     *sys.Reader
	terminal bool
	hold     *outputHold

	mu    sync.Mutex
	until time.Time // The end of tailMost; zero while the command runs.
	rest  int       // Bytes read since until.
	left  bool      // Given up before EOF.
}

// leaderEnded starts the output's last time: the command has ended.
func (t *tail) leaderEnded() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.until = time.Now().Add(tailMost)
	t.limitLocked()
}

// renew restarts the last time of an output after a hold.
func (t *tail) renew() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.until.IsZero() {
		t.until, t.rest = time.Now().Add(tailMost), 0
	}
}

// limitLocked sets the deadline of the next read.
func (t *tail) limitLocked() {
	now := time.Now()
	deadline := now.Add(tailSilence)
	if deadline.After(t.until) {
		deadline = t.until
	}
	if !deadline.After(now) {
		deadline = now.Add(tailGlance)
	}
	_ = t.file.SetReadDeadline(deadline) // An output that cannot be polled has no deadline.
}

// prepare sets the deadline of the next read if the command has ended. It reports whether
// a read is allowed.
func (t *tail) prepare() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.until.IsZero() {
		return true
	}
	t.limitLocked()
	return t.rest < tailRest
}

// Read reads the output until it ends or counts as ended.
func (t *tail) Read(b []byte) (int, error) {
	if t.hold.wait() {
		t.renew()
	}
	if !t.prepare() {
		return 0, t.giveUp()
	}
	n, err := t.from.Read(b)
	t.counted(n)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return n, t.giveUp()
	}
	return n, err
}

// Try reads the bytes that are there already, after a read that was full.
func (t *tail) Try(b []byte) (int, error) {
	if t.hold.isSet() || t.enough() {
		return 0, nil // An output that is never silent would keep the pump here.
	}
	n, err := t.from.Try(b)
	t.counted(n)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return n, nil // Read decides whether that is the end.
	}
	return n, err
}

func (t *tail) enough() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.rest >= tailRest
}

func (t *tail) counted(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.until.IsZero() && time.Now().After(t.until) {
		t.rest += n
	}
}

func (t *tail) giveUp() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.left = true
	return io.EOF
}

// close closes an output that has ended. An output that was given up is drained instead:
// a service that a command started must not get SIGPIPE. A terminal always hangs up, as
// its commands expect. others counts the outputs that are drained.
func (t *tail) close(others *atomic.Int64) {
	if !t.left || t.terminal {
		_ = t.file.Close() // Everything in it was read.
		return
	}
	if others.Add(1) > maxLeft {
		others.Add(-1)
		_ = t.file.Close()
		return
	}
	go func() {
		defer others.Add(-1)
		_ = t.file.SetReadDeadline(time.Time{})
		_, _ = io.Copy(io.Discard, t.file)
		_ = t.file.Close()
	}()
}
