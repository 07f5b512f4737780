package agent

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/agentd-go/agentd/internal/guest/session"
	"github.com/agentd-go/agentd/internal/guest/sys"
	"github.com/agentd-go/agentd/internal/mux"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

// A secondPort carries only raw records (protocol section 14). Each follows the
// incarnation of its client. There is no order between the two ports: a message about a
// flow may overtake the flow's records.
type secondPort struct {
	port       Port
	connection [16]byte
}

// errBound refuses a record on the first port while a second one is bound.
var errBound = errors.New("raw bulk record arrived on the bound control port")

// errAnswer says that the host's greeting names another connection.
var errAnswer = errors.New("the host's answer is not that to our greeting")

// HasSecond reports whether hosts of a generation can have a second port.
func HasSecond(g wire.Generation) bool { return g >= wire.BulkSince }

// Bind greets the host on the second port and waits for its answer until the deadline.
// Without the answer the boot fails.
func (a *Agent) Bind(port Port, connection [16]byte, deadline time.Time) error {
	if err := port.SetDeadline(deadline); err != nil {
		return err
	}
	hello := wire.GreetPort(connection)
	if _, err := port.Write(hello[:]); err != nil {
		return fmt.Errorf("greet the host: %w", err)
	}
	var answer wire.PortGreeting
	if _, err := io.ReadFull(port, answer[:]); err != nil {
		return fmt.Errorf("waiting for the host's answer: %w", err)
	}
	if answer != wire.AnswerPort(connection) {
		return errAnswer
	}
	a.second = &secondPort{port, connection}
	return port.SetDeadline(time.Time{})
}

// openSecond moves records by the second port, if one was bound.
func (a *Agent) openSecond(ready *wire.Ready) {
	if a.second == nil {
		return
	}
	a.host.Records = mux.NewWriter(a.second.port, 0)
	a.host.Incarnation = func(id uint32) [16]byte {
		which, _ := a.leases.get(slotOf(id)) // An offer on an id without a lease is not accepted.
		return which
	}
	ready.BulkTransport = &wire.BulkTransport{
		Profile: wire.SecondPortProfile, Port: wire.SecondPort, ConnectionID: a.second.connection,
	}
	go func() {
		if err := a.host.Records.Run(); err != nil {
			a.lose(fmt.Errorf("write second port: %w", err))
		}
	}()
	go a.readSecond()
}

// readSecond takes records until the port ends. At EOF it just returns: the first port
// tells the host's end. Any other error ends the link, because the start of the next
// record cannot be found.
func (a *Agent) readSecond() {
	frames := frame.NewReader(a.second.port)
	for {
		var of [16]byte
		err := frames.Raw(of[:])
		var f frame.Frame
		if err == nil {
			f, err = frames.Next()
		}
		switch {
		case errors.Is(err, io.EOF):
			return
		case err != nil:
			a.lose(fmt.Errorf("read second port: %w", err))
			return
		}
		a.secondRecord(of, f)
	}
}

// lose ends Serve with an error.
func (a *Agent) lose(why error) {
	a.failure.Store(&why)
	if err := a.port.SetReadDeadline(time.Now()); err != nil {
		sys.Logf("%v, and the reading goes on: %v", why, err)
	}
}

// secondRecord gives a record to its session. A record of a client that has gone, or of a
// session that has ended, is dropped: the two have crossed. A panic is a fault of the
// agent, and ends the handling of this record only.
func (a *Agent) secondRecord(of [16]byte, f frame.Frame) {
	defer func() {
		if fault := recover(); fault != nil {
			sys.Logf("record on id %d: %v", f.ID, fault)
		}
	}()
	c := a.host.Credit.Receive(len(of)+frame.HeaderSize+len(f.Body), true)
	if a.crossed(f, wire.Envelope{}) {
		c.Refund()
		return
	}
	carrier, ok := a.session(f.ID).(session.Carrier)
	if lease, leased := a.leases.get(slotOf(f.ID)); !leased || lease != of || !ok {
		c.Refund()
		return
	}
	r, err := recordIn(f)
	a.carry(carrier, r, err, c)
}
