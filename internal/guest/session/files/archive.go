package files

import (
	"errors"
	"math"

	"github.com/agentd-go/agentd/internal/flow"
	"github.com/agentd-go/agentd/internal/guest/session"
	"github.com/agentd-go/agentd/internal/pax"
	"github.com/agentd-go/agentd/internal/tree"
	"github.com/agentd-go/agentd/wire"
)

// errNoOffer refuses archives and events by data messages: without credit a host could neither stop
// the sending nor be stopped.
var errNoOffer = errors.New("needs an offer of raw bulk")

// newArchive makes the stream of an archive, or of events.
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

// A packing makes the archive of a directory.
type packing struct {
	op     *wire.OpPack
	packer *tree.Packer
}

func (p *packing) open() (err error) {
	p.packer, err = tree.NewPacker(p.op.Path, packOf(p.op))
	return err
}

func (p *packing) read(b []byte) (int, error) { return p.packer.Read(b) }
func (*packing) wait() error                  { return nil }
func (*packing) stop()                        {}
func (p *packing) result() wire.FSResult      { return archiveResult(&p.packer.Report) }

func (p *packing) close() {
	if p.packer != nil {
		p.packer.Close()
	}
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
