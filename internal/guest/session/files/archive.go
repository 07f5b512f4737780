package files

import (
	"errors"
	"io"
	"math"

	"github.com/agentd-go/agentd/internal/flow"
	"github.com/agentd-go/agentd/internal/guest/session"
	"github.com/agentd-go/agentd/internal/pax"
	"github.com/agentd-go/agentd/internal/tree"
	"github.com/agentd-go/agentd/wire"
)

// A Pack sends a directory to the host as an archive.
type Pack struct {
	*session.Stream
	client *client
}

// errNoOffer refuses archives by data messages: without credit a host could neither stop
// the sending nor be stopped.
var errNoOffer = errors.New("an archive needs an offer of raw bulk")

func startPack(base *session.Base, c *client, op *wire.OpPack, offer *wire.BulkOffer) *Pack {
	p := &Pack{client: c}
	var err error
	p.Stream, err = newArchive(base, session.Moves{
		Flows: wire.FlowGuestToHost, Name: "filesystem pack", Stray: session.NoOffer,
		Stop: func(err error) { p.To.Fail(err) },
	}, offer, op.Path)
	p.Work(func() { p.run(op, err) }, func(why string) { p.End(p, fileFailed(why)) })
	return p
}

// newArchive makes the stream of an archive.
func newArchive(base *session.Base, moves session.Moves, offer *wire.BulkOffer, path string) (*session.Stream, error) {
	moves.Kind, moves.Data, moves.Count = wire.BulkFS, wire.TypeFSData, &base.Host.Activity.Files
	moves.Record, moves.Offer = flow.MaxRecord, moves.Name
	_, err := named("", nil, path)
	if err == nil && offer == nil {
		err = errNoOffer
	}
	if err != nil {
		offer = nil
	}
	s, refused := session.NewStream(base, moves, offer)
	if refused != nil {
		return s, refused
	}
	return s, err
}

// Detach ends the sending.
func (p *Pack) Detach() {
	p.Base.Detach()
	p.To.Fail(session.ErrDetached)
}

func (p *Pack) run(op *wire.OpPack, err error) {
	var result wire.FSResult
	if err == nil {
		result, err = p.pass(op)
	}
	p.Farewell(err)
	p.End(p, fileResponse("pack: ", result, err))
}

// pass sends the archive. Each call that makes a part of it takes a place among the calls.
func (p *Pack) pass(op *wire.OpPack) (wire.FSResult, error) {
	var packer *tree.Packer
	var err error
	refused := p.client.call(func() { packer, err = tree.NewPacker(op.Path, packOf(op)) })
	if err = errors.Join(refused, err); err != nil {
		return nil, err
	}
	defer packer.Close()
	p.Begin()
	err = p.Pump(session.Stored(func(b []byte) (n int, err error) {
		if p.Detached() {
			return 0, session.ErrDetached
		}
		if refused := p.client.call(func() { n, err = packer.Read(b) }); refused != nil {
			return 0, refused
		}
		return n, err
	})).Run()
	if !errors.Is(err, io.EOF) {
		return nil, err
	}
	p.Send(p.To.End())
	return archiveResult(&packer.Report), nil
}

func packOf(op *wire.OpPack) tree.Pack {
	return tree.Pack{
		Names: op.Names, After: op.After, Exclude: op.Exclude, Bare: op.Bare,
		Xattrs: op.Xattrs, Links: op.Links, Devices: op.Devices, OneDevice: op.OneDevice,
	}
}

func archiveResult(r *tree.Report) *wire.ResultArchive {
	a := &wire.ResultArchive{Entries: r.Entries, Bytes: r.Bytes, More: r.More, Problems: []wire.ArchiveProblem{}}
	for _, p := range r.Problems {
		a.Problems = append(a.Problems, wire.ArchiveProblem{
			Op: wire.ValidText(p.Op), Name: wire.ValidText(p.Path), Error: session.Reason(p.Err),
		})
	}
	return a
}

// An Unpack makes files from an archive of the host.
type Unpack struct {
	Write

	client *client
	piece  []byte // The last piece of the archive, which is not yet counted as consumed.
	inside bool   // A place among the calls is held.
}

func startUnpack(base *session.Base, c *client, op *wire.OpUnpack, offer *wire.BulkOffer) *Unpack {
	u := &Unpack{client: c}
	var err error
	u.Stream, err = newArchive(base, session.Moves{
		Flows: wire.FlowHostToGuest, Name: "filesystem unpack", Want: math.MaxUint64,
		Stray: session.NoOffer, Stop: u.fail,
	}, offer, op.Path)
	u.Work(func() { u.run(op, err) }, func(why string) { u.end(u, fileFailed(why)) })
	return u
}

func (u *Unpack) run(op *wire.OpUnpack, err error) {
	var result wire.FSResult
	if err == nil {
		u.Begin()
		result, err = u.unpack(op)
	}
	u.Farewell(err)
	u.end(u, fileResponse("unpack: ", result, err))
}

// unpack unpacks in a place among the calls, which it gives back while it waits for the host.
func (u *Unpack) unpack(op *wire.OpUnpack) (wire.FSResult, error) {
	if err := u.enter(); err != nil {
		return nil, err
	}
	defer u.leave()
	unpacker, err := tree.NewUnpacker(op.Path, true, pax.NewReader(u.next), tree.Unpack{
		Owners: op.Owners, Xattrs: op.Xattrs, Devices: op.Devices, Replace: op.Replace, Sync: true,
	})
	if err != nil {
		return nil, err
	}
	defer unpacker.Close()
	if err := unpacker.Run(); err != nil {
		return nil, u.why(err)
	}
	return archiveResult(&unpacker.Report), nil
}

func (u *Unpack) enter() error {
	err := u.client.takeCall()
	u.inside = err == nil
	return err
}

func (u *Unpack) leave() {
	if u.inside {
		u.inside = false
		u.client.giveCall()
	}
}

// next returns the next piece of the archive. The last one has been written then.
func (u *Unpack) next() ([]byte, error) {
	if u.piece != nil {
		u.Consumed(u.piece, len(u.piece))
		u.piece = nil
	}
	u.leave()
	p, err := u.In.Next()
	if err == nil {
		err = u.enter()
	}
	if err != nil {
		return nil, err
	}
	u.piece = p
	return p, nil
}
