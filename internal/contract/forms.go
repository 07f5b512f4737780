package contract

import (
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

// catFrames are whole commands on sessions from 10 on, as one piece of bytes.
func (p *Peer) catFrames(commands uint32) (b []byte, ids []uint32, err error) {
	for n := range commands {
		for _, m := range []wire.Message{
			&wire.ExecRequest{Cmd: "cat"}, &wire.ExecStdin{Data: []byte("text")}, &wire.ExecStdin{Data: []byte{}},
		} {
			if b, err = wire.AppendFrame(b, speaks, p.ID(10+n), m); err != nil {
				return nil, nil, err
			}
		}
		ids = append(ids, p.ID(10+n))
	}
	return b, ids, nil
}

// split sends commands in pieces of a size.
func (p *Peer) split(commands uint32, size int) error {
	b, ids, err := p.catFrames(commands)
	if err != nil {
		return err
	}
	err = p.Pieces(func(write func([]byte) error) error {
		for rest := b; len(rest) > 0; rest = rest[min(size, len(rest)):] {
			if err := write(rest[:min(size, len(rest))]); err != nil {
				return err
			}
		}
		return nil
	}, ids...)
	if err != nil {
		return err
	}
	for n := range commands {
		if err := p.echoed(10+n, "text"); err != nil {
			return fmt.Errorf("pieces of %d: %w", size, err)
		}
	}
	return nil
}

func everyByteAlone(p *Peer) error {
	return errors.Join(p.split(2, 1), p.split(3, 7))
}

func manyFrames(p *Peer) error { return p.split(20, 1<<20) }

// maximalFrames are three of the largest there are, for a command that counts.
func maximalFrames(p *Peer) error {
	const frames = 3
	empty, err := p.Frame(20, &wire.ExecStdin{Data: make([]byte, frame.MaxBody/2)})
	if err != nil {
		return err
	}
	size := frame.MaxBody/2 + frame.MaxLength + 4 - len(empty)
	b, err := p.Frame(20, Shell("wc -c"))
	if err != nil {
		return err
	}
	for range frames {
		if b, err = wire.AppendFrame(b, speaks, p.ID(20), &wire.ExecStdin{Data: make([]byte, size)}); err != nil {
			return err
		}
	}
	if b, err = wire.AppendFrame(b, speaks, p.ID(20), &wire.ExecStdin{Data: []byte{}}); err != nil {
		return err
	}
	if err := p.Write(b, p.ID(20)); err != nil {
		return err
	}
	return p.echoed(20, fmt.Sprintln(frames*size))
}

func anyGeneration(p *Peer) error {
	for i, v := range []wire.Generation{0, 1, 4, 5, 8, 9, 255} {
		id := p.ID(30 + uint32(i))
		b, err := wire.AppendFrame(nil, v, id, &wire.ExecRequest{Cmd: "echo", Args: []string{"hi"}})
		if err == nil {
			err = p.Write(b, id)
		}
		if err == nil {
			err = p.echoed(30+uint32(i), "hi\n")
		}
		if err != nil {
			return fmt.Errorf("generation %d: %w", v, err)
		}
	}
	return nil
}

// edgeIDs are the first and last ids of the first, second and last slots.
func edgeIDs(p *Peer) error {
	for _, id := range []uint32{1, 0x01fffffe, 0x02000000, 0x03fffffd, 127*frame.Step + 1, 0xfe000000, 128*frame.Step - 1} {
		slot, owned := frame.SlotOf(id)
		if !owned {
			return fmt.Errorf("id %#x has no owner", id)
		}
		q := p.Peer(p.Ctx, slot)
		n := id - q.ID(0)
		err := q.Send(n, &wire.ExecRequest{Cmd: "echo", Args: []string{"hi"}})
		if err == nil {
			err = q.echoed(n, "hi\n")
		}
		if err != nil {
			return fmt.Errorf("id %#x: %w", id, err)
		}
	}
	return nil
}

// recorded holds bodies of real clients: one of the Rust client with all fields, and
// one of the TypeScript client, with long heads and tagged bytes.
var recorded = []string{
	"a3617604617471636f72652e657865632e7265717565737461705844a963636d64692f62696e2f6563686f64617267738162686963656e76" +
		"8063637764f66475736572f663747479f464726f7773181864636f6c73185067726c696d69747380",
	"b90003617605617471636f72652e657865632e726571756573746170d8405829b9000563636d64692f62696e2f6563686f646172677381" +
		"62686963747479f463637764f763656e7680",
}

// recordedRequests are answered like other requests.
func recordedRequests(p *Peer) error {
	for n, text := range recorded {
		body, err := hex.DecodeString(text)
		if err == nil {
			err = p.frame(uint32(n), frame.SessionStart, body)
		}
		if err == nil {
			err = p.echoed(uint32(n), "hi\n")
		}
		if err != nil {
			return fmt.Errorf("request %d: %w", n, err)
		}
	}
	return nil
}

// The same request in every allowed encoding, of the envelope and of the payload.
var (
	envelopes = []func(payload string) string{
		func(p string) string { return "\xa3av\x07atqcore.exec.requestap" + bytesHead(p) },
		func(p string) string { return "\xa3ap" + bytesHead(p) + "atqcore.exec.requestav\x07" },             // Another order.
		func(p string) string { return "\xa4enovel\x81\xf5av\x07atqcore.exec.requestap" + bytesHead(p) },    // An unknown key.
		func(p string) string { return "\xbfav\x07atqcore.exec.requestap\x5f" + bytesHead(p) + "\xff\xff" }, // No lengths.
		func(p string) string { return "\xb9\x00\x03av\x18\x07atx\x11core.exec.requestap" + bytesHead(p) },  // Long heads.
		func(p string) string { return "\xa3Av\x07Atqcore.exec.requestAp" + bytesHead(p) },                  // Keys of bytes.
		func(p string) string { return "\xa3av\x07atqcore.exec.requestap\xd8\x40" + bytesHead(p) },          // Tagged bytes.
		func(p string) string { return "\xa3av\x07atqcore.exec.requestap" + bytesHead(p) + "after" },        // More after it.
		func(p string) string { return "\xa3av\x07atqcore.exec.requestap" + numbers(p) },                    // Bytes as numbers.
	}
	payloads = []string{
		"\xa1ccmddtrue", "\xbfccmddtrue\xff", "\xa1ccmd\x7fbtrbue\xff", "\xb9\x00\x01ccmd\x78\x04true", "\xa1Ccmddtrue",
		"\xa1ccmddtruebehind", "\xa2enovel\xa1ax\xf6ccmddtrue", "\xa3ccmddtrueccwd\xf7duser\xf6", "\xa2dargs\x9faxay\xffccmddtrue",
	}
)

// bytesHead is a byte string of less than 256 bytes.
func bytesHead(s string) string { return "\x58" + string([]byte{byte(len(s))}) + s }

// numbers is the same as an array of integers.
func numbers(s string) string {
	b := []byte{0x98, byte(len(s))}
	for _, c := range []byte(s) {
		b = append(b, 0x18, c) // At its longest: that must do as well.
	}
	return string(b)
}

// everyForm is accepted.
func everyForm(p *Peer) error {
	var n uint32
	ask := func(body string) error {
		n++
		err := p.frame(100+n, frame.SessionStart, []byte(body))
		if err == nil {
			err = p.echoed(100+n, "")
		}
		if err != nil {
			return fmt.Errorf("body %q: %w", body, err)
		}
		return nil
	}
	for _, around := range envelopes {
		if err := ask(around(payloads[0])); err != nil {
			return err
		}
	}
	for _, payload := range payloads {
		if err := ask(envelopes[0](payload)); err != nil {
			return err
		}
	}
	return nil
}
