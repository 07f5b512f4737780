package files

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/agentd-go/agentd/internal/guest/session"
	"github.com/agentd-go/agentd/internal/guest/sys"
)

const (
	// maxHandles is how many handles one client may have (protocol section 9.7).
	maxHandles = 1024

	// fileShare is the share of the agent's descriptors, in quarters, that files may
	// take: commands and connections need the rest.
	fileShare = 3

	// maxCalls bounds the file operations that are in the kernel at once. Each may hang
	// there (a dead mount) and keeps a thread then, which must exist already: see
	// BlockingCalls. One client gets a quarter, so that its dead mount does not block the
	// others.
	maxCalls       = 32
	maxClientCalls = maxCalls / 4

	// maxClosers bounds the closing of files that gone clients have left, and of files
	// that got no place among the calls. Closing may hang too, so it has threads of its
	// own; one client gets half.
	maxClosers       = 4
	maxClientClosers = maxClosers / 2

	// callDeadline is how long an operation waits for a place: as long as a connection
	// may take. A call lasts milliseconds if nothing hangs.
	callDeadline = 30 * time.Second

	// smallAnswer is the size above which an answer counts as large: as much as any
	// session may have queued. At most maxLarge large answers exist at once. Each takes a
	// frame at most, and some three times that while it is made.
	smallAnswer = session.MaxRead
	maxLarge    = 2

	// BlockingCalls is how many threads the sessions may block in the kernel for ever,
	// besides the spawner's: file operations, closers, and one reader each of /etc/hosts
	// and /etc/resolv.conf.
	BlockingCalls = maxCalls + maxClosers + 2
)

// A Table has the handles of all clients, with one sequence of numbers.
type Table struct {
	calls   chan struct{} // Holds one element for each call in the kernel.
	closers chan struct{}
	large   chan struct{}
	most    int // The most handles of all clients.

	locks locks

	mu      sync.Mutex
	last    uint64 // The newest handle's number.
	open    int    // Handles, with those being opened.
	handles map[uint64]*handle
	clients map[int]*client
}

// NewTable returns an empty table.
func NewTable() *Table {
	const nofile = 7 // RLIMIT_NOFILE, getrlimit(2).
	f := &Table{
		calls:   make(chan struct{}, maxCalls),
		closers: make(chan struct{}, maxClosers),
		large:   make(chan struct{}, maxLarge),
		most:    maxHandles,
		handles: map[uint64]*handle{},
		clients: map[int]*client{},
	}
	if soft, _, err := sys.Limit(nofile); err == nil {
		const slots = 128 // Clients of one relay: no more handles than these have are possible.
		f.most = int(min(soft/4*fileShare, slots*maxHandles))
	}
	return f
}

// A client is the owner of handles.
type client struct {
	files   *Table
	calls   chan struct{}
	closers chan struct{}
	left    chan struct{} // Closed when it has disconnected.

	// Guarded by files.mu:
	handles map[uint64]*handle
	opening int                  // Reserved for handles being opened.
	closing map[*handle]struct{} // Closed handles that operations still use.
}

// client returns the client in a slot.
func (f *Table) client(slot int) *client {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.clients[slot]
	if c == nil {
		c = &client{
			files: f, handles: map[uint64]*handle{}, closing: map[*handle]struct{}{},
			calls: make(chan struct{}, maxClientCalls), closers: make(chan struct{}, maxClientClosers),
			left: make(chan struct{}),
		}
		f.clients[slot] = c
	}
	return c
}

// Disconnect closes all handles of the client in a slot, on goroutines of their own, and
// ends its operations that wait for a place.
func (f *Table) Disconnect(slot int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.clients[slot]
	if c == nil {
		return
	}
	delete(f.clients, slot)
	close(c.left)
	left := make(chan *os.File, len(c.handles)+len(c.closing))
	for _, h := range c.handles {
		f.dropLocked(h)
		if h.users == 0 {
			left <- h.file
		}
	}
	for h := range c.closing {
		// A file in use closes after its last use, which ends now that the client has
		// gone. Only a use that waits in the poller must be ended by closing the file.
		if h.polled {
			left <- h.file
		}
	}
	close(left)
	for range maxClientClosers {
		go func() {
			for file := range left {
				c.closeLater(file)
			}
		}()
	}
}

// Close is Disconnect for all clients.
func (f *Table) Close() {
	f.mu.Lock()
	slots := slices.Collect(maps.Keys(f.clients))
	f.mu.Unlock()
	for _, slot := range slots {
		f.Disconnect(slot)
	}
}

// close closes a file in a place among the calls. If none becomes free, it leaves the file
// to closeLater.
func (c *client) close(file *os.File) {
	if c.call(func() { discard(file) }) != nil {
		go c.closeLater(file)
	}
}

// closeLater closes a file when a closer is free.
func (c *client) closeLater(file *os.File) {
	c.closers <- struct{}{}
	defer func() { <-c.closers }()
	c.files.closers <- struct{}{}
	defer func() { <-c.files.closers }()
	discard(file)
}

// discard closes a file. All written bytes are in the kernel already, and no client is
// left that an error could be reported to.
func discard(file *os.File) { _ = file.Close() }

// A handle is one open file or directory.
type handle struct {
	id        uint64
	client    *client
	path      string // As the request named it.
	file      *os.File
	directory bool // Opened by OpenDir.
	access    sys.Access
	plain     bool // A regular file: has positions and never waits in the poller.
	polled    bool // Waits in the poller and so blocks no thread.

	pos   sync.Mutex // Held while the file's own position is used; guards names.
	names []string   // Names read from the directory and not yet sent.

	// Guarded by Table.mu:
	users  int
	closed bool
}

// newHandle takes over an open file. It closes the file on error.
func newHandle(path string, file *os.File, access sys.Access) (*handle, error) {
	stat, err := sys.StatFile(file)
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	return &handle{
		path: path, file: file, directory: access.Directory, access: access,
		plain:  stat.Type() == sys.ModeRegular,
		polled: file.SetDeadline(time.Time{}) == nil, // Only files in the poller have deadlines.
	}, nil
}

// reserve counts one more handle before it is opened, or says why there may be none.
func (c *client) reserve() error {
	f := c.files
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case len(c.handles)+c.opening >= maxHandles:
		return fmt.Errorf("too many open filesystem handles for relay client: %d", maxHandles)
	case f.open >= f.most:
		return syscall.EMFILE
	}
	c.opening++
	f.open++
	return nil
}

// unreserve gives back what reserve took.
func (c *client) unreserve() {
	c.files.mu.Lock()
	defer c.files.mu.Unlock()
	c.opening--
	c.files.open--
}

// add turns a reservation into a handle and gives it its number.
func (c *client) add(h *handle) (uint64, error) {
	f := c.files
	f.mu.Lock()
	defer f.mu.Unlock()
	c.opening--
	select {
	case <-c.left:
		f.open--
		return 0, session.ErrDetached
	default:
	}
	f.last++
	h.id, h.client = f.last, c
	c.handles[h.id], f.handles[h.id] = h, h
	return h.id, nil
}

// acquire finds a handle for one operation. The operation releases it.
func (c *client) acquire(id uint64) (*handle, error) {
	f := c.files
	f.mu.Lock()
	defer f.mu.Unlock()
	h := f.handles[id]
	switch {
	case h == nil:
		return nil, fmt.Errorf("invalid handle: %d", id)
	case h.client != c:
		return nil, fmt.Errorf("handle %d is owned by a different relay client", id)
	}
	h.users++
	return h, nil
}

// acquireFile finds the handle of a file.
func (c *client) acquireFile(id uint64) (*handle, error) {
	h, err := c.acquire(id)
	if err == nil && h.directory {
		h.release()
		return nil, fmt.Errorf("handle %d is a directory", id)
	}
	return h, err
}

// acquireDir finds the handle of a directory.
func (c *client) acquireDir(id uint64) (*handle, error) {
	h, err := c.acquire(id)
	if err == nil && !h.directory {
		h.release()
		return nil, fmt.Errorf("handle %d is a file", id)
	}
	return h, err
}

// drop removes a handle from the table; the file closes after its last use.
func (h *handle) drop() {
	f := h.client.files
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dropLocked(h)
}

func (f *Table) dropLocked(h *handle) {
	if h.closed {
		return
	}
	h.closed = true
	delete(f.handles, h.id)
	delete(h.client.handles, h.id)
	f.open--
	if h.users > 0 {
		h.client.closing[h] = struct{}{}
		f.locks.change() // It may wait for a lock.
	}
}

// release ends a use. The last use of a closed handle closes the file, which may wait.
func (h *handle) release() {
	f := h.client.files
	f.mu.Lock()
	h.users--
	last := h.closed && h.users == 0
	if last {
		delete(h.client.closing, h)
	}
	f.mu.Unlock()
	if last {
		h.client.close(h.file)
	}
}

// io does one read or write on the handle's file. It takes a place if the call can hang.
func (h *handle) io(f func() (int, error)) (n int, err error) {
	if h.polled {
		return f()
	}
	refused := h.client.call(func() { n, err = f() })
	if refused != nil {
		return 0, refused
	}
	return n, err
}

// call runs f, which may hang in the kernel, when it gets a place. The error says that it
// got none.
func (c *client) call(f func()) error {
	if err := c.takeCall(); err != nil {
		return err
	}
	defer c.giveCall()
	f()
	return nil
}

// giveCall gives back what takeCall took.
func (c *client) giveCall() {
	<-c.files.calls
	<-c.calls
}

// takeCall takes the client's place and the table's place of a call. In most cases both
// are free.
func (c *client) takeCall() error {
	if tryTake(c.calls) {
		if tryTake(c.files.calls) {
			return nil
		}
		<-c.calls // Hold neither place while waiting.
	}
	deadline := time.NewTimer(callDeadline)
	defer deadline.Stop()
	if err := c.take(c.calls, deadline.C); err != nil {
		return err
	}
	err := c.take(c.files.calls, deadline.C)
	if err != nil {
		<-c.calls
	}
	return err
}

func tryTake(places chan struct{}) bool {
	select {
	case places <- struct{}{}:
		return true
	default:
		return false
	}
}

// take waits for a place until the deadline, or until the client has gone.
func (c *client) take(places chan struct{}, deadline <-chan time.Time) error {
	select {
	case places <- struct{}{}:
		return nil
	case <-c.left:
		return session.ErrDetached
	case <-deadline:
		return syscall.EAGAIN
	}
}
