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
	// maxHandles is what one client may have open (protocol section 9.7).
	maxHandles = 1024

	// fileShare is the part of our descriptors, in quarters, that files may take:
	// commands and connections need the rest.
	fileShare = 3

	// maxCalls bounds the file operations that are in the kernel at once. Each
	// may hang there (a dead mount) and then has a thread of ours, which must
	// exist already: see BlockingCalls. One client gets a quarter, so that no one
	// client's dead mount is everybody's.
	maxCalls       = 32
	maxClientCalls = maxCalls / 4

	// maxClosers bounds the closing of what clients that are gone have left, and of
	// what had no turn among the calls: it may hang too. It has threads of its own,
	// of which one client gets half.
	maxClosers       = 4
	maxClientClosers = maxClosers / 2

	// callDeadline is how long an operation waits for its turn: as long as a
	// connection may take. Turns last milliseconds where nothing hangs.
	callDeadline = 30 * time.Second

	// smallAnswer is what an answer may hold before it counts as large: as much
	// as any session may have queued. Of large ones (a frame at most, and some
	// three times that while it is made) maxLarge exist at once.
	smallAnswer = session.MaxRead
	maxLarge    = 2

	// BlockingCalls is how many threads of ours sessions may keep in the kernel
	// for ever, beside the spawner's: files, closers, and one reader each of
	// /etc/hosts and /etc/resolv.conf.
	BlockingCalls = maxCalls + maxClosers + 2
)

// A Table is what all clients have open, by one row of handles.
type Table struct {
	calls   chan struct{} // Holds one element for each call in the kernel.
	closers chan struct{}
	large   chan struct{}
	most    int // Handles of all clients.

	mu      sync.Mutex
	last    uint64 // The newest handle.
	open    int    // Handles there are or will be in a moment.
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
		const slots = 128 // Clients of one relay: more handles than this there are not.
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
	opening int                  // Handles that will be there in a moment.
	closing map[*handle]struct{} // Handles without a number that are still used.
}

// client returns the one in a slot.
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

// Disconnect closes all that the client in a slot has open, on goroutines of
// their own, and ends its operations that wait for their turn.
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
		// What is still used closes with the last use, which ends now that nobody
		// listens. Only what waits in the poller has to be closed under it.
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

// close closes a file in its turn among the calls, or leaves it to be closed.
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

// discard closes a file. All that was written is in the kernel, and an error here
// would be too late for everybody.
func discard(file *os.File) { _ = file.Close() }

// A handle is one open file or directory.
type handle struct {
	id        uint64
	client    *client
	path      string // As the request named it.
	file      *os.File
	directory bool // Opened by OpenDir.
	access    sys.Access
	plain     bool // Has positions, and never waits in the poller.
	polled    bool // Waits in the poller and so holds no thread.

	pos   sync.Mutex // Held by who uses the file's own position, and guards:
	names []string   // What has been read of the directory and not been shown.

	// Guarded by Table.mu:
	users  int
	closed bool
}

// newHandle takes an open file over. It closes it on error.
func newHandle(path string, file *os.File, access sys.Access) (*handle, error) {
	stat, err := sys.StatFile(file)
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	return &handle{
		path: path, file: file, directory: access.Directory, access: access,
		plain:  stat.Type() == sys.ModeRegular,
		polled: file.SetDeadline(time.Time{}) == nil, // Only what is in the poller has deadlines.
	}, nil
}

// reserve makes sure that one more handle may be opened.
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

// add gives an open file its number. It replaces a reservation.
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

// acquire finds a handle for one operation, which releases it.
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

// drop takes a handle from the table; the file closes with its last user.
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
	}
}

// release ends a use. The last one may wait for the closing.
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

// io does one input or output on the handle's file, in its turn if it can hang.
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

// call does what may hang in the kernel, when it is its turn. The error says
// that its turn did not come.
func (c *client) call(f func()) error {
	if err := c.takeCall(); err != nil {
		return err
	}
	defer func() { <-c.calls }()
	defer func() { <-c.files.calls }()
	f()
	return nil
}

// takeCall takes both places of a call. Mostly they are free.
func (c *client) takeCall() error {
	if tryTake(c.calls) {
		if tryTake(c.files.calls) {
			return nil
		}
		<-c.calls // Who waits holds neither.
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
