package client_test

import (
	"encoding/hex"
	"errors"
	"io"
	"net"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

// peer is the agent's end of a link, played by a test.
type peer struct {
	t      *testing.T
	conn   net.Conn
	frames *frame.Reader
}

// script runs play in a bubble, whose T is the peer's, against a client on a link to a peer that has
// said that it is ready with the given generation. Whatever is left running when
// play has returned, and the client is closed, fails the test.
func script(t *testing.T, gen wire.Generation, play func(c *client.Client, p *peer)) {
	t.Helper()
	scriptReady(t, gen, wire.Ready{AgentVersion: "1.2.3"}, play)
}

// scriptReady is script for an agent that announces more.
func scriptReady(t *testing.T, gen wire.Generation, ready wire.Ready, play func(c *client.Client, p *peer)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		c := client.New(&client.Greeting{Link: near, Ready: ready, Generation: gen}, client.IDs{})
		p := &peer{t: t, conn: far, frames: frame.NewReader(far)}
		play(c, p)
		_ = far.Close() // So that Close need not wait.
		_ = c.Close()
	})
}

// background runs f, which plays the other side, and returns what waits for it.
func background(f func()) (wait func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	return func() { <-done }
}

// next returns the next frame, or ok false at the end of the link.
func (p *peer) next() (f frame.Frame, ok bool) {
	f, err := p.frames.Next()
	if err != nil {
		if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.ErrClosedPipe) {
			p.t.Errorf("peer: %v", err)
		}
		return f, false
	}
	return f, true
}

// message opens a frame.
func (p *peer) message(f frame.Frame) wire.Message {
	e, err := wire.DecodeEnvelope(f.Body)
	if err != nil {
		p.t.Errorf("peer: %v", err)
		return nil
	}
	if e.Generation != wire.Newest {
		p.t.Errorf("%s says generation %d, want our own", e.Type, e.Generation)
	}
	if info, _ := wire.Lookup(e.Type); info.Flags != f.Flags {
		p.t.Errorf("%s has flags %v, want %v", e.Type, f.Flags, info.Flags)
	}
	m, err := wire.Decode(e)
	if err != nil {
		p.t.Errorf("peer: %v", err)
	}
	return m
}

// expect reads the next frame, which must hold want, and returns its id.
func (p *peer) expect(want wire.Message) uint32 {
	p.t.Helper()
	f, ok := p.next()
	if !ok {
		p.t.Errorf("link ended, want %s", want.Type())
		return 0
	}
	got := p.message(f)
	if !reflect.DeepEqual(got, want) {
		p.t.Errorf("client sent %#v, want %#v", got, want)
	}
	return f.ID
}

// request reads the request that starts a command.
func (p *peer) request() (uint32, *wire.ExecRequest) {
	p.t.Helper()
	f, ok := p.next()
	if !ok {
		p.t.Error("link ended, want a request")
		return 0, new(wire.ExecRequest)
	}
	req, ok := p.message(f).(*wire.ExecRequest)
	if !ok {
		p.t.Errorf("want a request, got flags %v", f.Flags)
		return f.ID, new(wire.ExecRequest)
	}
	return f.ID, req
}

// begin reads a request for a command without input, and starts it.
func (p *peer) begin() uint32 {
	p.t.Helper()
	id, _ := p.request()
	p.send(id, &wire.ExecStarted{PID: 317})
	p.expect(&wire.ExecStdin{Data: []byte{}})
	return id
}

func (p *peer) send(id uint32, m wire.Message) {
	p.t.Helper()
	b, err := wire.AppendFrame(nil, 7, id, m)
	if err != nil {
		p.t.Error(err)
		return
	}
	p.write(b)
}

// raw sends a frame with any flags and body.
func (p *peer) raw(id uint32, flags frame.Flags, body string) {
	b, err := frame.Append(nil, frame.Frame{ID: id, Flags: flags, Body: []byte(body)})
	if err != nil {
		p.t.Error(err)
		return
	}
	p.write(b)
}

func (p *peer) write(b []byte) {
	if _, err := p.conn.Write(b); err != nil && !errors.Is(err, io.ErrClosedPipe) {
		p.t.Errorf("peer: %v", err)
	}
}

// ignore reads whatever the client still sends.
func (p *peer) ignore() { _, _ = io.Copy(io.Discard, p.conn) }

// golden is a recorded frame, on another id and of another generation.
func golden(t *testing.T, id uint32, recorded string) []byte {
	t.Helper()
	b, err := hex.DecodeString(recorded)
	if err != nil {
		t.Fatal(err)
	}
	b[4], b[5], b[6], b[7] = byte(id>>24), byte(id>>16), byte(id>>8), byte(id)
	return b
}

// ours gives a recorded host frame the generation that we stamp.
func ours(recorded string) string { return strings.Replace(recorded, "a3617604", "a3617609", 1) }

// Frames of the protocol's test vectors, by their numbers there.
const (
	ready055   = "000000660000000000a361760461746a636f72652e72656164796170584ca46c626f6f745f74696d655f6e731a48f545d66c696e69745f74696d655f6e731a06700d5e6d72656164795f74696d655f6e731a50597b1c6d6167656e745f76657273696f6e65302e352e35"                                                                                                                     // G02
	started317 = "000000280000000100a3617604617471636f72652e657865632e73746172746564617048a16370696419013d"                                                                                                                                                                                                                                                 // G05
	stdoutHi   = "000000290000000100a3617604617470636f72652e657865632e7374646f757461704aa164646174614368690a"                                                                                                                                                                                                                                               // G06
	stderrBad  = "0000002a0000000100a3617604617470636f72652e657865632e73746465727261704ba16464617461446261640a"                                                                                                                                                                                                                                             // G07
	exited3    = "000000260000000101a3617604617470636f72652e657865632e657869746564617047a164636f646503"                                                                                                                                                                                                                                                     // G08
	exitedKill = "000000260000000201a3617604617470636f72652e657865632e657869746564617047a164636f646520"                                                                                                                                                                                                                                                     // G09
	notFound   = "000000a00000000301a3617604617470636f72652e657865632e6661696c656461705880a5646b696e64696e6f745f666f756e64656572726e6f026a6572726e6f5f6e616d6566454e4f454e54676d6573736167657838737061776e20222f6e6f2f73756368223a204e6f20737563682066696c65206f72206469726563746f727920286f73206572726f722032296573746167656e436f6d6d616e643a3a737061776e" // G10
	noUser     = "000000840000001b01a3617604617470636f72652e657865632e6661696c656461705864a5646b696e64656f74686572656572726e6ff66a6572726e6f5f6e616d65f6676d6573736167657834657865632073657373696f6e206572726f723a2067756573742075736572206e6f7420666f756e643a206e6f626f647968657265657374616765f6"                                                         // G11
	stdinEPIPE = "0000006c0000000300a3617604617475636f72652e657865632e737464696e2e6572726f7261705847a3656572726e6f18206a6572726e6f5f6e616d65654550495045676d6573736167657823696f206572726f723a2042726f6b656e207069706520286f73206572726f7220333229"                                                                                                         // G12
	pong       = "000000190000000901a3617607617469636f72652e706f6e67617041a0"                                                                                                                                                                                                                                                                               // G26
	touched122 = "0000002b0000000901a361760761746c636f72652e746f7563686564617050a16c61637469766974795f736571187a"                                                                                                                                                                                                                                           // G27
	badFlags   = "0000008d0000000701a361760761746a636f72652e6572726f7261705873a3646b696e646d696e76616c69645f666c616773676d6573736167657835696e76616c696420666c61677320666f7220636f72652e657865632e7369676e616c3a20676f7420312c20657870656374656420306e6f6666656e64696e675f7479706570636f72652e657865632e7369676e616c"                                       // G28
	echoHi     = "000000740000000102a3617604617471636f72652e657865632e7265717565737461705853aa63636d64692f62696e2f6563686f64617267738162686963656e768063637764f66475736572f663747479f464726f7773181864636f6c73185067726c696d697473806d7265706f72745f7369676e616cf5"                                                                                         // H03 and report_signal
	stdinAB    = "000000270000000100a361760461746f636f72652e657865632e737464696e617049a16464617461426162"                                                                                                                                                                                                                                                   // H04
	stdinEnd   = "000000250000000100a361760461746f636f72652e657865632e737464696e617047a1646461746140"                                                                                                                                                                                                                                                       // H05
	signal15   = "000000280000000100a3617604617470636f72652e657865632e7369676e616c617049a1667369676e616c0f"                                                                                                                                                                                                                                                 // H06
	resize     = "0000002e0000000100a3617604617470636f72652e657865632e726573697a6561704fa264726f7773182864636f6c731864"                                                                                                                                                                                                                                     // H07
	clockSync  = "000000390000000000a361760461746f636f72652e636c6f636b2e73796e636170581aa16f756e69785f74696d655f6e616e6f731b18eac5e7246ffc00"                                                                                                                                                                                                               // H10
	shutdown   = "0000001d0000000004a361760461746d636f72652e73687574646f776e617041f6"                                                                                                                                                                                                                                                                       // H12
	ping       = "000000190000000100a3617609617469636f72652e70696e67617041a0"                                                                                                                                                                                                                                                                               // H13, id 1
	touch      = "0000001a0000000100a361760961746a636f72652e746f756368617041a0"                                                                                                                                                                                                                                                                             // H14, id 1
)

// expectBytes reads exactly these bytes.
func (p *peer) expectBytes(recorded string) {
	p.t.Helper()
	want, err := hex.DecodeString(ours(recorded))
	if err != nil {
		p.t.Error(err)
		return
	}
	got := make([]byte, len(want))
	if _, err := io.ReadFull(p.conn, got); err != nil {
		p.t.Error(err)
	}
	if string(got) != string(want) {
		p.t.Errorf("client sent %x\nwant        %x", got, want)
	}
}
