package relay

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/agentd-go/agentd/internal/mux"
	"github.com/agentd-go/agentd/wire/frame"
)

const (
	// clientMemory bounds the bytes that wait in memory for one client: the longest
	// frame.
	clientMemory = frame.HeaderSize + frame.MaxBody

	// allMemory bounds them for all clients together: sixteen times clientMemory.
	// Beyond it frames go to disk earlier.
	allMemory = 16 * clientMemory

	// clientStored bounds the bytes that wait on disk for one client: as many as the
	// agent stores for one session that does not read.
	clientStored = 256 << 20

	// allStored bounds them for all clients together: four times clientStored.
	allStored = 4 * clientStored

	// farewell is how long a client may take to read its queued frames after the
	// machine's link has ended.
	farewell = time.Second
)

// ErrClosed is a relay's reason for its end after Close.
var ErrClosed = errors.New("relay closed")

// A Config configures a relay.
type Config struct {
	// Link is the machine's port, read up to and including the agent's ready frame. The
	// relay owns it.
	Link io.ReadWriteCloser
	// Records is the machine's second port, after its greeting, for a guest that
	// has one and takes leases; nil is none. The relay owns it.
	Records io.ReadWriteCloser
	// Ready is the agent's ready frame, for the handshakes.
	Ready []byte
	Words Words
	// From makes the relay go on from another relay's cut: nothing goes to the guest
	// before [Relay.Thaw]. nil is a guest that has just become ready.
	From *Cut
	// Dir is the directory of the unlinked files that hold what clients leave unread;
	// "" means the system's directory for temporary files.
	Dir string
	// Shutdown is called when a client's core.shutdown is queued for the guest. It must
	// not block; nil is allowed.
	Shutdown func()
	// Log is called with a line about each action that no client has asked for. It must
	// neither block nor call the relay; nil is allowed.
	Log func(line string)
}

// Words encode and decode the frames that the relay itself sends or must recognize.
type Words struct {
	Kill  func(id uint32) []byte // The frame of core.exec.signal with 9.
	Hold  func(id uint32) []byte // The frame that holds a command's output back,
	Go    func(id uint32) []byte // and the one that lets it go on.
	Probe func(id uint32) []byte // A frame that the guest answers by one terminal frame.

	// Left is the frame of core.relay.client.disconnected. which identifies the
	// client's connection; nil without leases.
	Left func(start, end uint32, which *Incarnation) []byte

	// Leases are for a guest that acknowledges the end of clients (protocol section
	// 13); both are nil for others. Lease is the frame that begins a lease, Released
	// reports whether a frame of the guest acknowledges the end of one.
	Lease    func(start, end uint32, which Incarnation) []byte
	Released func(f frame.Frame) (which Incarnation, ok bool)

	// IsData and Credit are for a guest that counts what it is sent (protocol section
	// 15.1); both are nil for others. IsData tells whether a frame to it counts as data,
	// Credit tells what it grants by a frame of its own that belongs to nobody.
	IsData func(f frame.Frame) bool
	Credit func(f frame.Frame) (Limits, bool)
	// First is what it takes at first.
	First Limits

	// Answer returns what a frame says about freezing; ok is false for other frames. It is
	// nil for a guest that cannot freeze.
	Answer func(f frame.Frame) (a Answer, ok bool)

	// IsCommand reports whether a frame that begins a session begins a command.
	IsCommand func(f frame.Frame) bool
}

// A Relay serves clients until its link ends or it is closed.
type Relay struct {
	cfg       Config
	frames    *frame.Reader
	writer    *mux.Writer
	own       *mux.Outbox // Frames with id 0, of no client.
	memory    *mux.Budget
	disk      atomic.Int64  // Rest of allStored.
	held      atomic.Bool   // The link's reader waits, or is about to; see hold.
	freed     chan struct{} // Capacity 1; signals that a slot may be free.
	done      chan struct{}
	loops     sync.WaitGroup
	closeLink func() error
	records   *records    // nil without a second port.
	credit    *mux.Credit // nil without limits.

	mu       sync.Mutex
	slots    [frame.Slots]slot
	barrier  barrier
	speakers int       // Number of clients that have sent anything.
	changed  sync.Cond // On mu; signals a change of hold's condition.
	listener net.Listener
	err      error // Why the relay has ended.
}

// New starts a relay without clients.
func New(cfg Config) *Relay {
	r := &Relay{
		cfg:       cfg,
		frames:    frame.NewReader(cfg.Link),
		writer:    mux.NewWriter(cfg.Link, 0),
		memory:    mux.NewBudget(allMemory),
		freed:     make(chan struct{}, 1),
		done:      make(chan struct{}),
		closeLink: sync.OnceValue(cfg.Link.Close),
	}
	r.disk.Store(allStored)
	r.changed.L = &r.mu
	r.own = r.writer.Outbox(0)
	if cfg.Records != nil {
		r.records = newRecords(cfg.Records)
	}
	for n := range r.slots {
		s := &r.slots[n]
		s.start, s.end = frame.SlotRange(n)
		// One outbox for all clients of the slot: a client's frames must not overtake
		// the frame that says that the previous client has left.
		s.out = r.writer.Outbox(0)
		payer := new(mux.Payer)
		s.out.PayAs(payer)
		if r.records != nil {
			s.records = r.records.writer.Outbox(0)
			s.records.PayAs(payer)
		}
	}
	r.count()
	r.resume(cfg.From)
	r.loops.Go(r.read)
	r.loops.Go(r.write)
	if r.records != nil {
		r.loops.Go(r.readRecords)
		r.loops.Go(r.writeRecords)
	}
	return r
}

// Serve accepts clients until the relay ends, and closes l then.
func (r *Relay) Serve(l net.Listener) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		_ = l.Close() // No client will be served.
		return
	}
	r.listener = l
	r.loops.Go(func() { r.accept(l) })
}

// Connect returns a client's end of a connection within the process. The handshake
// comes first on it.
func (r *Relay) Connect() (net.Conn, error) {
	near, far := net.Pipe()
	if err := r.admit(far); err != nil {
		_, _ = near.Close(), far.Close() // In-memory pipes: Close never fails.
		return nil, err
	}
	return near, nil
}

// Send queues a frame with id 0, after those that were queued before. It does not wait:
// it fails if the guest has not read 64 KiB of them.
func (r *Relay) Send(b []byte) error {
	if !r.own.TrySend(b) {
		return errors.New("the guest does not read")
	}
	return nil
}

// Done is closed when the relay has ended.
func (r *Relay) Done() <-chan struct{} { return r.done }

// Err returns nil while the relay serves, then why it ended: [ErrClosed] after
// Close.
func (r *Relay) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// Close ends the relay and its links. Clients get their queued frames if they read them
// within a second. When Close returns, no goroutine of the relay runs.
func (r *Relay) Close() error {
	r.end(ErrClosed)
	err := r.closeLinks()
	r.loops.Wait()
	return err
}

// closeLinks closes the machine's links, which ends their readers and writers.
func (r *Relay) closeLinks() error {
	r.writer.Close()
	err := r.closeLink()
	if r.records != nil {
		r.records.writer.Close()
		err = errors.Join(err, r.records.close())
	}
	return err
}

// read routes the guest's frames until the link ends.
func (r *Relay) read() {
	defer func() { _ = r.closeLinks() }() // They are useless now.
	for {
		f, whole, err := r.frames.NextWhole()
		if err != nil {
			r.end(fmt.Errorf("machine's link: %w", err))
			return
		}
		r.route(f, whole)
	}
}

func (r *Relay) write() {
	if err := r.writer.Run(); err != nil {
		r.end(fmt.Errorf("machine's link: %w", err))
		_ = r.closeLinks() // Ends the reading too.
	}
}

// route passes a frame to the client that has its id.
func (r *Relay) route(f frame.Frame, whole []byte) {
	n, ok := frame.SlotOf(f.ID)
	if !ok {
		r.granted(f)
		r.answered(f)
		r.acknowledged(f) // Any other frame with an id of no client is dropped.
		return
	}
	c := r.observe(&r.slots[n], f)
	if c == nil {
		return
	}
	r.hold(c, len(whole))
	c.give(whole)
	if !c.slow.Load() && c.isSlow() {
		r.slow(c)
	}
}

// give queues a frame for the client, or disconnects it.
func (c *client) give(whole []byte) {
	switch err := c.in.Push(whole); {
	case err == nil, errors.Is(err, mux.ErrClosed):
	case errors.Is(err, mux.ErrFull):
		c.drop("it has left too much unread")
	default:
		c.drop("what it leaves unread cannot be stored: " + err.Error())
	}
}

// hold makes the link's reader wait for a client that does not read, as long as no
// other client could be delayed; after that the unread frames are stored. They are also
// stored when the client itself waits for the guest to read, perhaps before it reads
// on: a guest that cannot write may not read either.
func (r *Relay) hold(c *client, n int) {
	if c.in.Room(n) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	// Set before the check of the inbox, so that a goroutine that makes room after the
	// check sees it.
	r.held.Store(true)
	defer r.held.Store(false)
	for r.err == nil && c.slot.client == c && r.aloneLocked(c) && !c.in.Room(n) {
		r.changed.Wait()
	}
}

func (r *Relay) aloneLocked(c *client) bool {
	return c.spoke && r.speakers == 1 && c.slot.out.Queued() == 0
}

// wake makes the waiting link's reader check again.
func (r *Relay) wake() {
	if r.held.Load() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.changed.Broadcast()
	}
}

// end ends the relay and its clients, once.
func (r *Relay) end(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return
	}
	r.err = err
	r.changed.Broadcast()
	close(r.done)
	if r.listener != nil {
		_ = r.listener.Close() // Only removes the socket's file.
	}
	for n := range r.slots {
		s := &r.slots[n]
		if s.timer != nil {
			s.timer.Stop()
		}
		if c := s.client; c != nil {
			_ = c.conn.SetWriteDeadline(time.Now().Add(farewell)) // Fails only on a closed connection.
			c.in.End()
		}
	}
	if !errors.Is(err, ErrClosed) && !hasEnded(err) {
		r.log("%v", err)
	}
}

// hasEnded reports whether an error is the end of the machine: that of its link, also with
// bytes of ours that nobody has read, such as the time of day.
func hasEnded(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

func (r *Relay) log(format string, args ...any) {
	if r.cfg.Log != nil {
		r.cfg.Log("relay: " + fmt.Sprintf(format, args...))
	}
}
