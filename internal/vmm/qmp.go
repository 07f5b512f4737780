package vmm

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// qmpLine bounds one message. The replies to our commands are below 100 bytes,
// the greeting below 200; events carry a few names.
const qmpLine = 64 << 10

// A QMPError is QEMU's refusal of a command.
type QMPError struct {
	Class string `json:"class"`
	Desc  string `json:"desc"`
}

// Error implements error.
func (e *QMPError) Error() string { return e.Class + ": " + e.Desc }

// errQMPEnd is the error of commands after QEMU has closed the control link.
var errQMPEnd = errors.New("qemu closed its control link")

// qmp is a client of QEMU's control link. One goroutine always reads, so that unwanted
// events do not pile up inside QEMU.
type qmp struct {
	conn net.Conn

	mu      sync.Mutex
	lastID  uint64
	waiting map[uint64]chan qmpMessage // one slot each; nil after the end
	watched []*watcher

	over  atomic.Bool   // QEMU has said that it shuts down
	ended chan struct{} // closed at the end of the link
}

// errVanished says that QEMU has ended without a word on its control link. Its status is not
// known: it was no child of ours.
var errVanished = errors.New("it was killed, or has failed")

// verdict says why a QEMU has ended that was no child of ours.
func (q *qmp) verdict() error {
	<-q.ended // QEMU's end ends the link.
	if q.over.Load() {
		return nil
	}
	return errVanished
}

// qmpMessage is a greeting, a reply, or an event.
type qmpMessage struct {
	QMP    json.RawMessage `json:"QMP"`
	ID     *uint64         `json:"id"`
	Return json.RawMessage `json:"return"`
	Error  *QMPError       `json:"error"`
	Event  string          `json:"event"`
	Data   json.RawMessage `json:"data"`
}

type qmpCommand struct {
	Execute   string `json:"execute"`
	Arguments any    `json:"arguments,omitempty"`
	ID        uint64 `json:"id"`

	file *os.File // QEMU gets its descriptor with the command.
}

// A watcher waits for one event.
type watcher struct {
	match func(event string, data json.RawMessage) bool
	seen  chan struct{} // closed by the event
}

// newQMP does the handshake on conn, which it then owns. ctx bounds the handshake.
func newQMP(ctx context.Context, conn net.Conn) (*qmp, error) {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })
	lines := bufio.NewScanner(conn)
	lines.Buffer(nil, qmpLine)
	err := readGreeting(lines)
	if !stop() {
		err = errors.Join(ctx.Err(), err)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("qmp greeting: %w", err), conn.Close())
	}
	q := &qmp{conn: conn, waiting: make(map[uint64]chan qmpMessage), ended: make(chan struct{})}
	go q.read(lines)
	if err := q.execute(ctx, "qmp_capabilities"); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return q, nil
}

func readGreeting(lines *bufio.Scanner) error {
	if !lines.Scan() {
		return scanEnd(lines)
	}
	var m qmpMessage
	if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
		return err
	}
	if m.QMP == nil {
		return fmt.Errorf("got %.100q", lines.Bytes())
	}
	return nil
}

func scanEnd(lines *bufio.Scanner) error {
	if err := lines.Err(); err != nil {
		return err
	}
	return io.ErrUnexpectedEOF
}

// execute runs a command without arguments.
func (q *qmp) execute(ctx context.Context, command string) error {
	return q.call(ctx, command, nil, nil)
}

// call runs a command and waits for its reply. arguments may be nil; a non-nil result
// receives the reply. The wait ends with ctx; a later reply is dropped.
func (q *qmp) call(ctx context.Context, command string, arguments, result any) error {
	err := q.callOnce(ctx, qmpCommand{Execute: command, Arguments: arguments}, result)
	if err != nil {
		return fmt.Errorf("qmp %s: %w", command, err)
	}
	return nil
}

func (q *qmp) callOnce(ctx context.Context, c qmpCommand, result any) error {
	id, reply, err := q.register()
	if err != nil {
		return err
	}
	defer q.forget(id)
	c.ID = id
	if err := q.send(ctx, c); err != nil {
		return err
	}
	returned, err := await(ctx, reply)
	if err != nil || result == nil {
		return err
	}
	return json.Unmarshal(returned, result)
}

func await(ctx context.Context, reply <-chan qmpMessage) (returned json.RawMessage, err error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case m, ok := <-reply:
		switch {
		case !ok:
			return nil, errQMPEnd
		case m.Error != nil:
			return nil, m.Error
		}
		return m.Return, nil
	}
}

// watch registers a watcher for the next event for which match returns true. The link's
// reader calls match, which must be quick.
func (q *qmp) watch(match func(event string, data json.RawMessage) bool) *watcher {
	w := &watcher{match, make(chan struct{})}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.watched = append(q.watched, w)
	return w
}

// awaitEvent waits for the event of w and then removes w.
func (q *qmp) awaitEvent(ctx context.Context, w *watcher) error {
	defer q.unwatch(w)
	select {
	case <-w.seen:
		return nil
	default:
	}
	select {
	case <-w.seen:
		return nil
	case <-q.ended:
		return errQMPEnd
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (q *qmp) unwatch(w *watcher) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.watched = slices.DeleteFunc(q.watched, func(o *watcher) bool { return o == w })
}

// tell passes an event to its watchers.
func (q *qmp) tell(m qmpMessage) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.watched = slices.DeleteFunc(q.watched, func(w *watcher) bool {
		taken := w.match(m.Event, m.Data)
		if taken {
			close(w.seen)
		}
		return taken
	})
}

func (q *qmp) register() (id uint64, reply chan qmpMessage, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.waiting == nil {
		return 0, nil, errQMPEnd
	}
	q.lastID++
	reply = make(chan qmpMessage, 1)
	q.waiting[q.lastID] = reply
	return q.lastID, reply, nil
}

func (q *qmp) forget(id uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.waiting, id)
}

// send writes one short line. It blocks only while QEMU reads nothing.
func (q *qmp) send(ctx context.Context, c qmpCommand) error {
	line, err := json.Marshal(c)
	if err != nil {
		return err
	}
	deadline, _ := ctx.Deadline() // The zero time means no deadline.
	if err := q.conn.SetWriteDeadline(deadline); err != nil {
		return err
	}
	line = append(line, '\n')
	if c.file != nil {
		return writeWith(q.conn, line, c.file)
	}
	_, err = q.conn.Write(line)
	return err
}

// read delivers replies until the link ends, by QEMU or by close.
func (q *qmp) read(lines *bufio.Scanner) {
	for lines.Scan() {
		var m qmpMessage
		switch err := json.Unmarshal(lines.Bytes(), &m); {
		case err != nil:
		case m.ID != nil:
			q.deliver(*m.ID, m)
		case m.Event != "":
			if m.Event == "SHUTDOWN" {
				q.over.Store(true)
			}
			q.tell(m)
		}
	}
	close(q.ended)
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, reply := range q.waiting {
		close(reply)
	}
	q.waiting = nil
}

func (q *qmp) deliver(id uint64, m qmpMessage) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if reply, ok := q.waiting[id]; ok {
		delete(q.waiting, id) // A second reply is then ignored.
		reply <- m
	}
}

func (q *qmp) close() error { return q.conn.Close() }
