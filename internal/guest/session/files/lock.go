package files

import (
	"sync"
	"syscall"
	"time"

	"github.com/agentd-go/agentd/internal/guest/session"
	"github.com/agentd-go/agentd/internal/guest/sys"
	"github.com/agentd-go/agentd/wire"
)

// lockRetry is how often a lock is tried that a program of the guest holds. The kernel has
// no event for the end of such a lock, and a thread that waits in flock(2) cannot be told
// to give up. Locks of handles are tried again when one is released.
const lockRetry = 50 * time.Millisecond

// locks tells the operations that wait for a lock when to try again.
type locks struct {
	mu      sync.Mutex
	changed chan struct{} // Closed at the next change; nil if nothing waits.
}

// next is closed at the next change.
func (l *locks) next() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.changed == nil {
		l.changed = make(chan struct{})
	}
	return l.changed
}

func (l *locks) change() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

// lock changes the lock of an open file. It holds a place among the calls only while it
// tries, so that others can use their files, and release the lock.
func (h *handle) lock(how int, wait uint32) error {
	late := time.NewTimer(time.Duration(min(wait, wire.MaxLockWait)) * time.Millisecond)
	defer late.Stop()
	f := h.client.files
	for {
		changed := f.locks.next()
		var err error
		if refused := h.client.call(func() { err = sys.Lock(h.file, how) }); refused != nil {
			return refused
		}
		if err == nil && how != sys.Exclusive { // A shared lock may have been an exclusive one.
			f.locks.change()
		}
		if err != syscall.EAGAIN || wait == 0 { //nolint:errorlint // A bare number.
			return err
		}
		select {
		case <-changed:
		case <-time.After(lockRetry):
		case <-h.client.left:
			return session.ErrDetached
		case <-late.C:
			return err
		}
		if h.isClosed() {
			return syscall.EBADF
		}
	}
}

// isClosed reports whether the handle's number is gone.
func (h *handle) isClosed() bool {
	h.client.files.mu.Lock()
	defer h.client.files.mu.Unlock()
	return h.closed
}
