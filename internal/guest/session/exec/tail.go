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

// The end of a command is reported when its output has ended, but a process that
// it left behind may hold the output open for as long as it lives. So an output
// counts as ended soon after its command has.
const (
	// tailSilence is how long nobody must have said anything in it. What a pipeline
	// still has to say follows within milliseconds; clients wait 10 s for the end
	// of a command that they killed.
	tailSilence = 5 * time.Second

	// tailMost is when it counts as ended also if there is no such silence, at the
	// next moment when nothing is in it. What still speaks then is a service, not a
	// command.
	tailMost = time.Minute

	// tailRest is the most that is read then: what the largest pipe holds
	// (/proc/sys/fs/pipe-max-size), so that all is sent that was said in time.
	tailRest = 1 << 20

	// tailGlance is how long such a read may wait.
	tailGlance = 10 * time.Millisecond
)

// maxLeft bounds the outputs that are read on for processes left behind. Each
// costs a descriptor; beyond that they are closed, and who writes there learns it.
const maxLeft = 128

// A tail is one output of a command, which ends soon after the command at the
// latest.
type tail struct {
	file     *os.File
	from     *sys.Reader
	terminal bool
	hold     *outputHold

	mu    sync.Mutex
	until time.Time // Zero while the command runs.
	rest  int       // What has been read since until.
	left  bool      // Given up before its end.
}

// leaderEnded begins the time that the output has left.
func (t *tail) leaderEnded() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.until = time.Now().Add(tailMost)
	t.limitLocked()
}

// renew gives an output that was held back the time that it had before.
func (t *tail) renew() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.until.IsZero() {
		t.until, t.rest = time.Now().Add(tailMost), 0
	}
}

// limitLocked sets until when the next read may wait.
func (t *tail) limitLocked() {
	now := time.Now()
	deadline := now.Add(tailSilence)
	if deadline.After(t.until) {
		deadline = t.until
	}
	if !deadline.After(now) {
		deadline = now.Add(tailGlance)
	}
	_ = t.file.SetReadDeadline(deadline) // An output that cannot be polled waits for its end.
}

// prepare is limitLocked before a read, if the command has ended. It reports
// whether there may be one.
func (t *tail) prepare() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.until.IsZero() {
		return true
	}
	t.limitLocked()
	return t.rest < tailRest
}

// Read reads the output until its end, or what counts as that.
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

// Try reads what is there already, for a pump that has just been given much.
func (t *tail) Try(b []byte) (int, error) {
	if t.hold.isSet() || t.enough() {
		return 0, nil // What never falls silent would keep the pump here.
	}
	n, err := t.from.Try(b)
	t.counted(n)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return n, nil // Whether that is the end is for Read to say.
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

// close closes the output, unless somebody may still write to it: then it is read
// on without a listener, because a service must not die of having been started. A
// terminal hangs up, as its own commands expect. others counts what is read on.
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
