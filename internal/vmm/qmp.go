package vmm

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
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

// errQMPEnd is why commands fail once QEMU has closed the control link.
var errQMPEnd = errors.New("qemu closed its control link")

// qmp is a client of QEMU's control link. One goroutine reads until the end, so
// that events nobody asked for do not pile up inside QEMU.
type qmp struct {
	conn net.Conn

	mu      sync.Mutex
	lastID  uint64
	waiting map[uint64]chan qmpMessage // one slot each; nil after the end
}

// qmpMessage is a greeting, a reply, or an event, which has none of these fields.
type qmpMessage struct {
	QMP   json.RawMessage `json:"QMP"`
	ID    *uint64         `json:"id"`
	Error *QMPError       `json:"error"`
}

type qmpCommand struct {
	Execute string `json:"execute"`
	ID      uint64 `json:"id"`
}

// newQMP does the handshake on conn, which it then owns. ctx bounds it.
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
	q := &qmp{conn: conn, waiting: make(map[uint64]chan qmpMessage)}
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

// execute runs a command without arguments and waits for its reply. The wait ends
// with ctx; a reply that comes later is dropped.
func (q *qmp) execute(ctx context.Context, command string) error {
	id, reply, err := q.register()
	if err != nil {
		return fmt.Errorf("qmp %s: %w", command, err)
	}
	defer q.forget(id)
	if err := q.send(ctx, qmpCommand{Execute: command, ID: id}); err != nil {
		return fmt.Errorf("qmp %s: %w", command, err)
	}
	if err := await(ctx, reply); err != nil {
		return fmt.Errorf("qmp %s: %w", command, err)
	}
	return nil
}

func await(ctx context.Context, reply <-chan qmpMessage) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case m, ok := <-reply:
		switch {
		case !ok:
			return errQMPEnd
		case m.Error != nil:
			return m.Error
		}
		return nil
	}
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

// send writes one short line; it waits only while QEMU reads nothing at all.
func (q *qmp) send(ctx context.Context, c qmpCommand) error {
	line, err := json.Marshal(c)
	if err != nil {
		return err
	}
	deadline, _ := ctx.Deadline() // The zero time is none.
	if err := q.conn.SetWriteDeadline(deadline); err != nil {
		return err
	}
	_, err = q.conn.Write(append(line, '\n'))
	return err
}

// read delivers replies until the link ends, by QEMU or by close.
func (q *qmp) read(lines *bufio.Scanner) {
	for lines.Scan() {
		var m qmpMessage
		if json.Unmarshal(lines.Bytes(), &m) == nil && m.ID != nil {
			q.deliver(*m.ID, m)
		}
	}
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
		delete(q.waiting, id) // So that a second reply finds nobody.
		reply <- m
	}
}

func (q *qmp) close() error { return q.conn.Close() }
