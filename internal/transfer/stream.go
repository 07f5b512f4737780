package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"unicode/utf8"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/internal/pax"
	"github.com/agentd-go/agentd/internal/tree"
)

// maxAsked bounds the names in a request for an archive: half of a frame.
const maxAsked = 2 << 20

// A stream carries out a plan by one archive in place of requests for each file.
type stream struct {
	p    *Plan
	done *Progress
	kind map[string]pax.Kind // What the plan has, by name.
}

// streams reports whether the plan is carried out by an archive.
func (p *Plan) streams() bool { return len(p.dirs) > 0 && p.mayStream() }

// mayStream reports whether both sides can move a tree by an archive: a host and a machine, or
// two machines, whose agents have archives.
func (p *Plan) mayStream() bool {
	_, toHost := p.to.(*hostTarget)
	to, toGuest := p.to.(*guestTarget)
	from, fromGuest := p.from.(*listed)
	_, fromHost := p.from.(Host)
	if toGuest && !to.g.archives() || fromGuest && !from.archives() {
		return false
	}
	if (toHost || fromHost) && !tree.Possible {
		return false
	}
	return fromGuest && (toHost || toGuest) || fromHost && toGuest
}

// stream carries the plan out.
func (p *Plan) stream(ctx context.Context, done *Progress) error {
	s := &stream{p: p, done: done, kind: map[string]pax.Kind{}}
	for _, m := range p.members {
		s.kind[m.name] = m.kind
	}
	var err error
	switch from := p.from.(type) {
	case *listed:
		err = s.receive(ctx, from.Guest)
	default:
		err = s.send(ctx)
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	p.failed.add(err)
	return p.failed.err()
}

// A member is a file, directory or link of the plan, by its name below the target.
type member struct {
	name string
	kind pax.Kind
}

// note adds a member to the plan.
func (p *Plan) note(i item, kind pax.Kind) { p.members = append(p.members, member{i.to, kind}) }

// names are the members' names, in the order of an archive.
func (p *Plan) names() []string {
	all := make([]string, len(p.members))
	for i, m := range p.members {
		all[i] = m.name
	}
	return all
}

// send packs this host's files, and lets the machine unpack them.
func (s *stream) send(ctx context.Context) error {
	packer, err := tree.NewPacker(s.p.source, tree.Pack{
		Names: s.p.names(), Packed: s.count,
		Xattrs: s.p.archive, Links: s.p.archive, Devices: s.p.archive,
	})
	if err != nil {
		return err
	}
	defer packer.Close()
	read := func(b []byte) (int, error) {
		n, err := packer.Read(b)
		s.done.Bytes.Store(int64(packer.Report.Bytes))
		return n, err
	}
	err = s.unpack(ctx, readFunc(read))
	for _, problem := range packer.Report.Problems {
		s.p.failed.add(&fs.PathError{Op: problem.Op, Path: s.p.from.Join(s.p.source, problem.Path), Err: problem.Err})
	}
	s.p.failed.count(packer.Report.More)
	return err
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(b []byte) (int, error) { return f(b) }

// unpack lets the target's machine unpack an archive.
func (s *stream) unpack(ctx context.Context, from io.Reader) error {
	to, _ := s.p.to.(*guestTarget)
	c, err := to.g.client(ctx)
	if err != nil {
		return err
	}
	r, err := c.Unpack(ctx, to.dir, from, client.UnpackOptions{
		Owners: s.p.archive, Xattrs: s.p.archive, Devices: s.p.archive,
	})
	s.p.failed.report(r, to.dir)
	return err
}

// report adds a machine's problems with members below a directory.
func (f *failures) report(r client.ArchiveReport, dir string) {
	for _, problem := range r.Problems {
		if of, ok := errors.AsType[*fs.PathError](problem); ok {
			problem = &fs.PathError{Op: of.Op, Path: strings.TrimSuffix(dir, "/") + "/" + of.Path, Err: of.Err}
		}
		f.add(problem)
	}
	f.count(r.More)
}

// count counts the members of an archive that are files and links.
func (s *stream) count(h *pax.Header) {
	if h.Kind != pax.Directory {
		s.done.Files.Add(1)
	}
}

// receive asks the source's machine for an archive, and unpacks what the plan has of it.
func (s *stream) receive(ctx context.Context, g Guest) error {
	o := client.PackOptions{Exclude: s.p.exclude(), Xattrs: s.p.archive, Links: s.p.archive, Devices: s.p.archive}
	if names := s.p.names(); s.p.Skipped > 0 && mayAsk(names) {
		o.Names = names
	}
	from, err := from(ctx, g, func(c *client.Client) (*client.Archive, error) { return c.Pack(ctx, s.p.source, o) })
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }() // It was only read.
	if _, toHost := s.p.to.(*hostTarget); toHost {
		err = s.unpackHere(from)
	} else {
		err = s.unpack(ctx, &filter{from: pax.NewReader(from.Next), accept: s.accept, done: s.count, bytes: &s.done.Bytes})
	}
	r := from.Report()
	r.Problems = withoutOdd(r.Problems)
	s.p.failed.report(r, s.p.source)
	return err
}

// withoutOdd removes the reports of sockets and devices: the plan has reported them.
func withoutOdd(all []error) (rest []error) {
	for _, err := range all {
		if _, text, _ := strings.Cut(err.Error(), ": "); !strings.HasPrefix(text, "left out: ") {
			rest = append(rest, err)
		}
	}
	return rest
}

// mayAsk reports whether a request for an archive can have names.
func mayAsk(names []string) bool {
	n := 0
	for _, name := range names {
		if n += len(name); !utf8.ValidString(name) {
			return false
		}
	}
	return n <= maxAsked
}

// accept reports whether the plan has a member, of the same kind. Other members come when
// files are left out, when a tree has changed, or from a hostile machine. A second name of a
// file is a file in the plan.
func (s *stream) accept(h *pax.Header) bool {
	kind, ok := s.kind[h.Name]
	return ok && (kind == h.Kind || kind == pax.Regular && h.Kind == pax.HardLink)
}

// unpackHere unpacks an archive beneath the target on this host.
func (s *stream) unpackHere(from *client.Archive) error {
	to, _ := s.p.to.(*hostTarget)
	u, err := tree.NewUnpacker(to.dir, !to.top, pax.NewReader(from.Next), tree.Unpack{
		Owners: s.p.archive && mayChown(), Xattrs: s.p.archive, Devices: s.p.archive && mayChown(),
		Clear: modeBits(s.p.foreign), Accept: s.accept, Done: s.count,
		Wrote: func(n int) { s.done.Bytes.Add(int64(n)) },
	})
	if err != nil {
		return err
	}
	defer u.Close()
	err = u.Run()
	for _, problem := range u.Report.Problems {
		s.p.failed.add(&fs.PathError{Op: problem.Op, Path: Host{}.Join(to.dir, problem.Path), Err: problem.Err})
	}
	s.p.failed.count(u.Report.More)
	return err
}

// addSpecial plans a device or a fifo, if the copy keeps them.
func (p *Plan) addSpecial(ctx context.Context, i item, info, old fs.FileInfo) error {
	kind, ok := specials[info.Mode().Type()]
	if !ok || !p.archive {
		p.Odd = append(p.Odd, fmt.Sprintf("%s: left out: %s is no file, directory or link", i.from, info.Mode().Type()))
		return nil
	}
	if old != nil && old.IsDir() && !p.clash(ctx, i.to, old) {
		return &OverwriteError{i.to, old.Mode().Type(), info.Mode().Type()}
	}
	if p.sync != nil && kind == pax.Fifo && old != nil && old.Mode() == i.mode && p.sameTime(i, old) {
		p.Skipped++ // Devices are made again: listings do not have their numbers.
		return nil
	}
	p.note(i, kind)
	p.Files++
	return nil
}

var specials = map[fs.FileMode]pax.Kind{
	fs.ModeNamedPipe:                  pax.Fifo,
	fs.ModeDevice | fs.ModeCharDevice: pax.CharDevice,
	fs.ModeDevice:                     pax.BlockDevice,
}
