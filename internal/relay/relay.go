package relay

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/agentd-go/agentd/internal/mux"
	"github.com/agentd-go/agentd/wire/frame"
)

const (
	// clientMemory is what may wait in memory for one client: a frame of the
	// greatest length.
	clientMemory = frame.HeaderSize + frame.MaxBody

	// allMemory bounds that for all clients together: sixteen at their own bound,
	// the others go to disk earlier.
	allMemory = 16 * clientMemory

	// clientStored is what may wait for one client on disk, beyond memory: as
	// much as the agent keeps there for one session that does not read.
	clientStored = 256 << 20

	// allStored bounds the disk for all clients: four at their own bound.
	allStored = 4 * clientStored

	// farewell is how long a client may take for what is queued for it when the
	// machine's link has ended.
	farewell = time.Second
)

// ErrClosed is why a relay ended that was closed.
var ErrClosed = errors.New("relay closed")

// A Config says what a relay relays.
type Config struct {
	// Link is the machine's port, over which the agent has said that it is ready
	// and nothing since has been read. The relay owns it.
	Link io.ReadWriteCloser
	// Records is the machine's second port, after its greeting, for a guest that
	// has one and takes leases; nil is none. The relay owns it.
	Records io.ReadWriteCloser
	// Ready is the frame that said so, for the handshakes.
	Ready []byte
	Words Words
	// Dir is where files are made, and unlinked at once, that hold what clients
	// have not read. "" is the system's directory for temporary files.
	Dir string
	// Shutdown is called when a client's core.shutdown is on its way. It must not
	// block; nil is nobody.
	Shutdown func()
	// Log is told in a line what the relay does of its own accord. It must neither
	// block nor call the relay; nil is nobody.
	Log func(line string)
}

// Words are what the relay cannot say or tell by itself.
type Words struct {
	Kill  func(id uint32) []byte // The frame of core.exec.signal with 9.
	Hold  func(id uint32) []byte // The frame that keeps a command's output back,
	Go    func(id uint32) []byte // and the one that lets it go on.
	Probe func(id uint32) []byte // A frame that is answered by one terminal frame.

	// Left is the frame of core.relay.client.disconnected; which connection of the
	// range's clients it was is nil without leases.
	Left func(start, end uint32, which *Incarnation) []byte

	// Leases are for a guest that acknowledges the end of clients (protocol section
	// 13); both are nil for others. Lease is the frame that lets it begin, Released
	// tells whether a frame of the guest's is an acknowledgement.
	Lease    func(start, end uint32, which Incarnation) []byte
	Released func(f frame.Frame) (which Incarnation, ok bool)

	// IsCommand reports whether a frame that begins a session begins a command.
	IsCommand func(f frame.Frame) bool
}

// A Relay serves clients until its link ends or it is closed.
type Relay struct {
	cfg       Config
	frames    *frame.Reader
	writer    *mux.Writer
	own       *mux.Outbox // Frames of the machine's, id 0.
	memory    *mux.Budget
	disk      atomic.Int64  // What is left of allStored.
	held      atomic.Bool   // The link waits, or is about to; see hold.
	freed     chan struct{} // Of one element: a slot is free, or may be taken.
	done      chan struct{}
	loops     sync.WaitGroup
	closeLink func() error
	records   *records // nil without a second port.

	mu       sync.Mutex
	slots    [frame.Slots]slot
	speakers int       // Clients that have sent anything.
	changed  sync.Cond // On mu: what hold looks at.
	listener net.Listener
	err      error // Why it has ended.
}

// New starts a relay, which has no clients yet.
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
		// One for all clients of the slot: a client's frames must not overtake
		// those that say that the one before it has left.
		s.out = r.writer.Outbox(0)
		if r.records != nil {
			s.records = r.records.writer.Outbox(0)
		}
	}
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
		_ = l.Close() // Nobody will be served.
		return
	}
	r.listener = l
	r.loops.Go(func() { r.accept(l) })
}

// Connect returns a client's end of a connection within the process, on which
// the handshake comes first.
func (r *Relay) Connect() (net.Conn, error) {
	near, far := net.Pipe()
	if err := r.admit(far); err != nil {
		_, _ = near.Close(), far.Close() // Of memory: they cannot fail.
		return nil, err
	}
	return near, nil
}

// Send queues a frame of the machine's, after those that were queued before. It
// does not wait: when the guest has not read 64 KiB of them it fails.
func (r *Relay) Send(b []byte) error {
	if !r.own.Offer(b) {
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

// Close ends the relay and its link. Clients get what was there for them, if they
// take it within a second; then it returns, with nothing left running.
func (r *Relay) Close() error {
	r.end(ErrClosed)
	err := r.closeLinks()
	r.loops.Wait()
	return err
}

// closeLinks ends the machine's links, and with them whoever reads and writes them.
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
	defer func() { _ = r.closeLinks() }() // They are of no use any more.
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

// route gives a frame to the client that has its id.
func (r *Relay) route(f frame.Frame, whole []byte) {
	n, ok := frame.SlotOf(f.ID)
	if !ok {
		r.acknowledged(f) // Else it answers what belongs to nobody.
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

// hold lets the link wait for a client that does not read, until there is anybody
// else whom that could delay: then what it leaves unread has to be stored. So it
// has when the client is itself waiting to be heard, perhaps before it reads: a
// guest that cannot speak need not listen.
func (r *Relay) hold(c *client, n int) {
	if c.in.Room(n) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	// Before the look at the inbox: who makes room after that look sees it.
	r.held.Store(true)
	defer r.held.Store(false)
	for r.err == nil && c.slot.client == c && r.aloneLocked(c) && !c.in.Room(n) {
		r.changed.Wait()
	}
}

func (r *Relay) aloneLocked(c *client) bool {
	return c.spoke && r.speakers == 1 && c.slot.out.Queued() == 0
}

// wake has the link look again whether it has to wait.
func (r *Relay) wake() {
	if r.held.Load() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.changed.Broadcast()
	}
}

// end lets clients go, once.
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
		_ = r.listener.Close() // Only its file is left, which is removed.
	}
	for n := range r.slots {
		s := &r.slots[n]
		if s.timer != nil {
			s.timer.Stop()
		}
		if c := s.client; c != nil {
			_ = c.conn.SetWriteDeadline(time.Now().Add(farewell)) // Fails only if it is closed.
			c.in.End()
		}
	}
	if !errors.Is(err, ErrClosed) && !errors.Is(err, io.EOF) {
		r.log("%v", err)
	}
}

func (r *Relay) log(format string, args ...any) {
	if r.cfg.Log != nil {
		r.cfg.Log("relay: " + fmt.Sprintf(format, args...))
	}
}
