package contract

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"

	"github.com/agentd-go/agentd/wire"
)

// opened are the handles that the rows of filesHandles are about.
type opened struct{ both, reads, appends, dir, dirFile, fifo uint64 }

func openAll(p *Peer) (o opened, err error) {
	open := func(h *uint64, op wire.FSOp) func() error {
		return func() (err error) {
			*h, err = p.Open(op)
			return err
		}
	}
	err = first(
		func() error {
			_, err := p.Say("mkdir /h; cd /h; printf 0123456789 >f; mkfifo p")
			return err
		},
		open(&o.both, &wire.OpOpenFile{Path: "/h/f", Options: wire.OpenOptions{Read: true, Write: true}}),
		open(&o.reads, &wire.OpOpenFile{Path: "/h/f", Options: wire.OpenOptions{Read: true}}),
		open(&o.appends, &wire.OpOpenFile{Path: "/h/f", Options: wire.OpenOptions{Append: true, Create: true}}),
		open(&o.dir, &wire.OpOpenDir{Path: "/h"}),
		open(&o.dirFile, &wire.OpOpenFile{Path: "/h", Options: wire.OpenOptions{Read: true}}),
		// Both sides of the fifo: no agent waits for that.
		open(&o.fifo, &wire.OpOpenFile{Path: "/h/p", Options: wire.OpenOptions{Read: true, Write: true}}),
	)
	return o, err
}

// lost is an unknown handle.
const lost = 1234567

// fileHandles are what open files and directories answer (protocol sections 9.2
// and 9.7). A row's operation is made of the handles when it is its turn.
//
//holds:wire 5: ids 1, 0x01FFFFFE, 0x02000000, 0xFE000000; handles of one slot refused to another
func fileHandles() []Behaviour {
	var o opened
	all := []Behaviour{{Name: "handles to ask about", Check: func(p *Peer) (err error) {
		o, err = openAll(p)
		return err
	}}}
	for _, r := range append(openRows(), handleRows(&o)...) {
		all = append(all, Behaviour{Name: "handle: " + r.name, Check: func(p *Peer) error {
			op, want := r.ask()
			got, err := p.File(op)
			if err != nil {
				return err
			}
			return same("outcome", got, want)
		}})
	}
	return append(all, Behaviour{Name: "handle of another client", Check: func(p *Peer) error { return foreignHandle(p.Other(), o.reads) }})
}

// A lazyRow is a row whose operation needs a handle.
type lazyRow struct {
	name string
	ask  func() (op wire.FSOp, want string)
}

// openRows are the ways to open.
func openRows() (all []lazyRow) {
	open := func(o wire.OpenOptions) wire.FSOp { return &wire.OpOpenFile{Path: "/h/new", Options: o} }
	const noAccess = "open: creating or truncating a file requires write or append access"
	for _, r := range []row{
		{op: open(wire.OpenOptions{}), want: "open: must specify at least one of read, write, or append access"},
		{op: open(wire.OpenOptions{Read: true, Create: true}), want: noAccess},
		{op: open(wire.OpenOptions{Read: true, Truncate: true}), want: noAccess},
		{op: open(wire.OpenOptions{Read: true, CreateNew: true}), want: noAccess},
		{op: open(wire.OpenOptions{Append: true, Truncate: true}), want: noAccess},
		{op: open(wire.OpenOptions{Read: true}), want: "open: " + missing},
		{op: open(wire.OpenOptions{Write: true, CreateNew: true, Mode: new(uint32(0o666))}), want: "handle"},
		{op: open(wire.OpenOptions{Write: true, CreateNew: true}), want: "open: " + exists},
		{op: &wire.OpStat{Path: "/h/new"}, want: "/h/new file 0 100644 0:0"},
		{op: &wire.OpOpenFile{Path: "/h", Options: wire.OpenOptions{Write: true}}, want: "open: " + isDir},
		{op: &wire.OpOpenDir{Path: "/h/f"}, want: "opendir: " + notDir},
		{op: &wire.OpOpenDir{Path: "/no"}, want: "opendir: " + missing},
	} {
		all = append(all, lazyRow{describe(r.op), func() (wire.FSOp, string) { return r.op, r.want }})
	}
	return all
}

// handleRows are what handles answer.
func handleRows(o *opened) []lazyRow {
	handle := func(format string, h *uint64) string { return fmt.Sprintf(format, *h) }
	return []lazyRow{
		{"read all", func() (wire.FSOp, string) { return &wire.OpRead{Handle: o.both}, "0123456789ok" }},
		{"read a part", func() (wire.FSOp, string) {
			return &wire.OpRead{Handle: o.both, Offset: 3, Len: new(uint64(4))}, "3456ok"
		}},
		{"read nothing", func() (wire.FSOp, string) { return &wire.OpRead{Handle: o.both, Len: new(uint64(0))}, "ok" }},
		{"read past the end", func() (wire.FSOp, string) { return &wire.OpRead{Handle: o.both, Offset: 11}, "ok" }},
		{"read at no offset", func() (wire.FSOp, string) {
			return &wire.OpRead{Handle: o.both, Offset: 1 << 63}, "seek: " + invalid
		}},
		{"read what is written", func() (wire.FSOp, string) {
			return &wire.OpRead{Handle: o.appends}, handle("read: handle %d is not open for reading", &o.appends)
		}},
		{"read a directory handle", func() (wire.FSOp, string) {
			return &wire.OpRead{Handle: o.dir}, handle("read: handle %d is a directory", &o.dir)
		}},
		{"read a directory", func() (wire.FSOp, string) { return &wire.OpRead{Handle: o.dirFile}, "read: " + isDir }},
		{"read a fifo", func() (wire.FSOp, string) {
			return &wire.OpRead{Handle: o.fifo}, "seek: Invalid seek (os error 29)"
		}},
		{"read nobody's", func() (wire.FSOp, string) { return &wire.OpRead{Handle: lost}, "read: invalid handle: 1234567" }},
		{"write what is read", func() (wire.FSOp, string) {
			return &wire.OpWrite{Handle: o.reads}, handle("write: handle %d is not open for writing", &o.reads)
		}},
		{"write nobody's", func() (wire.FSOp, string) { return &wire.OpWrite{Handle: lost}, "write: invalid handle: 1234567" }},
		{"list a file", func() (wire.FSOp, string) {
			return &wire.OpReadDir{Handle: o.both}, handle("readdir: handle %d is a file", &o.both)
		}},
		{"list nobody's", func() (wire.FSOp, string) {
			return &wire.OpReadDir{Handle: lost}, "readdir: invalid handle: 1234567"
		}},
		{"stat", func() (wire.FSOp, string) { return &wire.OpFStat{Handle: o.both}, "/h/f file 10 100644 0:0" }},
		{"stat a directory", func() (wire.FSOp, string) { return &wire.OpFStat{Handle: o.dir}, "/h dir 40755 0:0" }},
		{"stat nobody's", func() (wire.FSOp, string) { return &wire.OpFStat{Handle: lost}, "fstat: invalid handle: 1234567" }},
		{"set a directory's", func() (wire.FSOp, string) {
			return &wire.OpFSetStat{Handle: o.dir}, handle("fsetstat: handle %d is a directory", &o.dir)
		}},
		{"set through a reader", func() (wire.FSOp, string) {
			return &wire.OpFSetStat{Handle: o.reads, Attrs: wire.FSAttrs{Mode: new(uint32(0o600)), Mtime: new(int64(7))}}, "ok"
		}},
		{"resize through a reader", func() (wire.FSOp, string) {
			return &wire.OpFSetStat{Handle: o.reads, Attrs: wire.FSAttrs{Size: new(uint64(2))}}, "fsetstat: set_len: " + invalid
		}},
		{"resize", func() (wire.FSOp, string) {
			return &wire.OpFSetStat{Handle: o.both, Attrs: wire.FSAttrs{Size: new(uint64(2)), UID: new(uint32(0))}}, "ok"
		}},
		{"stat what was set", func() (wire.FSOp, string) { return &wire.OpFStat{Handle: o.reads}, "/h/f file 2 100600 0:0" }},
		{"close", func() (wire.FSOp, string) { return &wire.OpCloseHandle{Handle: o.both}, "ok" }},
		{"close twice", func() (wire.FSOp, string) {
			return &wire.OpCloseHandle{Handle: o.both}, handle("close: invalid handle: %d", &o.both)
		}},
		{"read what is closed", func() (wire.FSOp, string) {
			return &wire.OpRead{Handle: o.both}, handle("read: invalid handle: %d", &o.both)
		}},
	}
}

func foreignHandle(p *Peer, handle uint64) error {
	for prefix, op := range map[string]wire.FSOp{
		"fstat": &wire.OpFStat{Handle: handle}, "read": &wire.OpRead{Handle: handle}, "close": &wire.OpCloseHandle{Handle: handle},
	} {
		got, err := p.File(op)
		if err == nil {
			err = same(prefix, got, fmt.Sprintf("%s: handle %d is owned by a different relay client", prefix, handle))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// fileStreams are contents, both ways (protocol sections 9.5 and 9.6).
//
//holds:wire 9: one response to each request: listings, late and refused writes
//holds:wire 9: 32 MiB round trip; length mismatch; append
func fileStreams() []Behaviour {
	return []Behaviour{
		{Name: "stream: 32 MiB there and back", Check: roundTrip},
		{Name: "stream: where data goes", Check: placesOfData},
		{Name: "stream: late data", Check: lateData},
		{Name: "stream: frames after a refused write", Check: behindRefusal},
		soon(Behaviour{Name: "stream: failure in the middle", Check: failsInTheMiddle}),
		{Name: "stream: two of one handle", Check: twoStreams},
	}
}

// pattern returns data without repeated parts.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i) ^ byte(i>>8) ^ byte(i>>16)
	}
	return b
}

// chunk is how much the reference client sends in one message.
const chunk = 3 << 20

func roundTrip(p *Peer) error {
	data := pattern(32 << 20)
	h, err := p.OpenFile("/h/big", wire.OpenOptions{Read: true, Write: true, Create: true})
	if err != nil {
		return err
	}
	got, err := p.Put(1, &wire.OpWrite{Handle: h, Len: new(uint64(len(data)))}, data, chunk)
	if err == nil {
		err = same("write", got, "ok")
	}
	if err != nil {
		return err
	}
	if err := p.Send(1, &wire.FSRequest{Op: &wire.OpRead{Handle: h}}); err != nil {
		return err
	}
	back, r, err := p.Response(1)
	switch {
	case err != nil:
		return err
	case !r.OK:
		return errors.New(Outcome(r))
	case sha256.Sum256(back) != sha256.Sum256(data):
		return fmt.Errorf("%d other bytes than the %d that were written", len(back), len(data))
	}
	_, err = p.File(&wire.OpRemove{Path: "/h/big"})
	return errors.Join(err, p.closes(h))
}

// closes checks that a handle can be closed.
func (p *Peer) closes(h uint64) error {
	got, err := p.File(&wire.OpCloseHandle{Handle: h})
	if err != nil {
		return err
	}
	return same("close", got, "ok")
}

func placesOfData(p *Peer) error {
	small, err := p.OpenFile("/h/small", wire.OpenOptions{Read: true, Write: true, Create: true})
	if err != nil {
		return err
	}
	appends, err := p.OpenFile("/h/small", wire.OpenOptions{Append: true})
	if err != nil {
		return err
	}
	for _, tt := range []struct {
		op         wire.OpWrite
		data, want string
		file       string
	}{
		{wire.OpWrite{Handle: small, Offset: 2}, "cd", "ok", "\x00\x00cd"},
		{wire.OpWrite{Handle: small}, "ab", "ok", "abcd"},
		{wire.OpWrite{Handle: appends, Offset: 1 << 20}, "ef", "ok", "abcdef"},
		{wire.OpWrite{Handle: small, Len: new(uint64(9))}, "xy", "write length mismatch: expected 9, wrote 2", "xycdef"},
		{wire.OpWrite{Handle: small}, "", "ok", "xycdef"},
	} {
		got, err := p.Put(1, &tt.op, []byte(tt.data), 1)
		if err == nil {
			err = same("write", got, tt.want)
		}
		if err != nil {
			return err
		}
		got, err = p.File(&wire.OpRead{Handle: small})
		if err == nil {
			err = same("the file after "+tt.data, got, tt.file+"ok")
		}
		if err != nil {
			return err
		}
	}
	return errors.Join(p.closes(small), p.closes(appends))
}

// answers waits for a response on a session.
func (p *Peer) answers(session uint32, want string) error {
	_, r, err := p.Response(session)
	if err != nil {
		return err
	}
	return same("answer", Outcome(r), want)
}

func lateData(p *Peer) error {
	if err := p.Send(2, &wire.FSData{Data: []byte("late")}); err != nil {
		return err
	}
	return p.answers(2, fmt.Sprintf("unknown write session: %d", p.ID(2)))
}

// behindRefusal sends the frames of a write that is refused: each has an answer,
// once the refusal has left.
func behindRefusal(p *Peer) error {
	if err := p.Send(3, &wire.FSRequest{Op: &wire.OpWrite{Handle: lost}}); err != nil {
		return err
	}
	if err := p.answers(3, "write: invalid handle: 1234567"); err != nil {
		return err
	}
	for range 3 {
		if err := p.Send(3, &wire.FSData{Data: []byte("x")}); err != nil {
			return err
		}
		if err := p.answers(3, fmt.Sprintf("unknown write session: %d", p.ID(3))); err != nil {
			return err
		}
	}
	return nil
}

// failsInTheMiddle writes to a full device. The reference agents buffer writes and see
// the error when they flush.
func failsInTheMiddle(p *Peer) error {
	full, err := p.OpenFile("/dev/full", wire.OpenOptions{Write: true})
	if err != nil {
		return err
	}
	err = p.Send(4, &wire.FSRequest{Op: &wire.OpWrite{Handle: full}}, &wire.FSData{Data: []byte("x")}, &wire.FSData{Data: []byte{}})
	if err != nil {
		return err
	}
	_, r, err := p.Response(4)
	if err != nil {
		return err
	}
	const rest = ": No space left on device (os error 28)"
	if got := Outcome(r); got != "write"+rest && got != "flush"+rest {
		err = fmt.Errorf("the outcome is %q", got)
	}
	err = errors.Join(err, p.closes(full))
	p.dropped(4) // The end after the failure may be answered too.
	return err
}

// twoStreams writes by two streams of one handle at once: both arrive whole.
func twoStreams(p *Peer) error {
	h, err := p.OpenFile("/h/two", wire.OpenOptions{Read: true, Write: true, Create: true})
	if err != nil {
		return err
	}
	const size = 64 << 10
	for i := range uint32(2) {
		if err := p.Send(5+i, &wire.FSRequest{Op: &wire.OpWrite{Handle: h, Offset: uint64(i) * size}}); err != nil {
			return err
		}
	}
	for range 16 {
		for i, letter := range []string{"a", "b"} {
			if err := p.Send(5+uint32(i), &wire.FSData{Data: bytes.Repeat([]byte(letter), size/16)}); err != nil {
				return err
			}
		}
	}
	for i := range uint32(2) {
		if err := p.Send(5+i, &wire.FSData{Data: []byte{}}); err != nil {
			return err
		}
		if err := p.answers(5+i, "ok"); err != nil {
			return err
		}
	}
	got, err := p.File(&wire.OpRead{Handle: h})
	if err != nil {
		return err
	}
	return errors.Join(same("the file", got, strings.Repeat("a", size)+strings.Repeat("b", size)+"ok"), p.closes(h))
}
