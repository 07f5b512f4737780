package sandbox

import (
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/agentd-go/agentd/wire"
)

// A secondPort is the host's end of the port for raw records during the boot (protocol
// section 14).
type secondPort struct {
	conn  net.Conn
	bound chan binding // Capacity 1.
}

// A binding is the result of the guest's greeting.
type binding struct {
	connection [16]byte
	err        error
}

// hasSecond reports whether a machine gets a second port: its generation has one, and
// it has only one host process in its life.
func (c Config) hasSecond() bool {
	return wire.Generation(c.Generation) >= wire.BulkSince && c.Configuration == ByBootstrap && c.Init == "" && c.PortSocket == "" && c.Survive == ""
}

// answerSecond waits for the guest's greeting and answers it.
func answerSecond(conn net.Conn) *secondPort {
	s := &secondPort{conn, make(chan binding, 1)}
	go func() {
		var b binding
		b.connection, b.err = bindSecond(conn)
		s.bound <- b
	}()
	return s
}

func bindSecond(conn net.Conn) (connection [16]byte, err error) {
	var hello wire.PortGreeting
	if _, err := io.ReadFull(conn, hello[:]); err != nil {
		return connection, err
	}
	connection = hello.Connection()
	if hello != wire.GreetPort(connection) {
		return connection, fmt.Errorf("the guest's greeting is %x", hello)
	}
	answer := wire.AnswerPort(connection)
	_, err = conn.Write(answer[:])
	return connection, err
}

// settle compares the guest's announcement with its greeting. It returns the link for
// records, or nil if the guest has sent neither and uses one port.
func (s *secondPort) settle(announced *wire.BulkTransport) (net.Conn, error) {
	if announced == nil {
		if err := s.conn.SetReadDeadline(time.Now()); err != nil {
			return nil, err
		}
		if b := <-s.bound; b.err == nil {
			return nil, errors.New("second port: the guest has bound it and does not announce it")
		}
		return nil, s.conn.Close()
	}
	b := <-s.bound // The guest has received the answer or never will; the end of the machine also ends this wait.
	switch {
	case b.err != nil:
		return nil, fmt.Errorf("second port: %w", b.err)
	case announced.Profile != wire.SecondPortProfile || announced.Port != wire.SecondPort:
		return nil, fmt.Errorf("second port: the guest announces %q at %q", announced.Profile, announced.Port)
	case announced.ConnectionID != b.connection:
		return nil, fmt.Errorf("second port: the guest announces %x and has bound %x", announced.ConnectionID, b.connection)
	}
	return s.conn, nil
}

// settleSecond is settle for the handshake, with or without a second port.
func (h *handshake) settleSecond(ready *wire.Ready, log func(string)) (err error) {
	if h.second == nil {
		if ready.BulkTransport != nil {
			err = errors.New("second port: the guest announces one that the machine does not have")
		}
		return err
	}
	h.records, err = h.second.settle(ready.BulkTransport)
	if err == nil && h.records == nil && log != nil {
		log("the agent has no second port: raw records go by the first")
	}
	if err == nil && h.records != nil && !h.leases() {
		err = errors.New("second port: the guest does not acknowledge leases")
	}
	return err
}
