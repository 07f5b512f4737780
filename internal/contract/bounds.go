package contract

import (
	"errors"
	"fmt"
	"strings"

	"github.com/agentd-go/agentd/wire"
)

// fileBounds check the bounds of file operations, and that they delay no other session
// (protocol sections 9.7 and 19a).
//
//holds:wire 2: no frame of the guest below 5 or above 4 MiB; an answer that does not fit is an error
//holds:wire 9: 1024 handles, the 1025th refused, commands start
func fileBounds() []Behaviour {
	return []Behaviour{
		{Name: "bound: 1024 handles and a command", Check: manyHandles},
		{Name: "bound: a listing of 40,000", Check: fullListing},
		{Name: "bound: 44,000 files", Check: func(p *Peer) error { return p.touchFiles(strings.Repeat("n", long), fits+1, many) }},
		{Name: "bound: 44,000 by pages", Check: longPages},
		soon(Behaviour{Name: "bound: a listing of 44,000", Check: longListing}),
		{Name: "bound: names that are no text", Check: otherNames},
		{Name: "beside: a fifo that nobody opens", Check: silentFifo, Own: hangsInFifo},
		{Name: "beside: a stat during a read that waits", Check: waitingRead, Own: "it hangs for ever", Machine: true},
		{Name: "beside: the removal of a large tree", Check: largeTree},
	}
}

// maxHandles is how many handles one client may have open.
const maxHandles = 1024

// manyHandles opens the most handles that another client may have, then one more, and
// runs a command.
func manyHandles(p *Peer) error {
	p = p.Other()
	op := &wire.OpOpenFile{Path: "/h/f", Options: wire.OpenOptions{Read: true}}
	for i := range maxHandles {
		if _, err := p.Open(op); err != nil {
			return errors.Join(fmt.Errorf("handle %d: %w", i+1, err), p.Leave())
		}
	}
	got, err := p.File(op)
	if err == nil {
		err = same("one more", got, "open: too many open filesystem handles for relay client: 1024")
	}
	if err == nil {
		got, err = p.Say("echo still")
	}
	if err == nil {
		err = same("a command beside them", got, "still\n")
	}
	return errors.Join(err, p.Leave())
}

// Of short names, fits are as many as a frame holds. Those that come on top of them
// are long: with many a frame is too small, and the memory of a machine of 512 MiB
// still has as many inodes (shmem of Linux 6.12 has half as many as there are pages).
const (
	fits = 40_000
	many = 44_000
	long = 240
	dir  = "/dev/shm/many"
)

// touchFiles makes empty files with numbers for names, after a prefix.
func (p *Peer) touchFiles(prefix string, from, to int) error {
	_, err := p.Say(fmt.Sprintf("mkdir -p %s && cd %s && seq %d %d | sed s/^/%s/ | xargs touch", dir, dir, from, to, prefix))
	return err
}

func fullListing(p *Peer) error {
	if err := p.touchFiles("", 1, fits); err != nil {
		return err
	}
	if err := p.Send(fileSession, &wire.FSRequest{Op: &wire.OpList{Path: dir}}); err != nil {
		return err
	}
	_, r, err := p.Response(fileSession)
	if err != nil {
		return err
	}
	if list, ok := r.Data.(*wire.ResultList); !ok || len(list.Entries) != fits {
		return fmt.Errorf("the listing is %.100s", Outcome(r))
	}
	return nil
}

func longPages(p *Peer) error {
	d, err := p.Open(&wire.OpOpenDir{Path: dir})
	if err != nil {
		return err
	}
	const limit = 1000 // What a published agent fits into a frame.
	seen, err := p.pages(d, limit)
	if err == nil && len(seen) != many {
		err = fmt.Errorf("pages have %d names, want %d", len(seen), many)
	}
	return errors.Join(err, p.closes(d))
}

func longListing(p *Peer) error {
	got, err := p.File(&wire.OpList{Path: dir})
	if err == nil && !strings.HasPrefix(got, "readdir: ") {
		err = fmt.Errorf("the listing is %.100q", got)
	}
	return err
}

// pages reads a directory to its end.
func (p *Peer) pages(handle uint64, limit uint32) (map[string]wire.FSEntry, error) {
	seen := map[string]wire.FSEntry{}
	for {
		if err := p.Send(fileSession, &wire.FSRequest{Op: &wire.OpReadDir{Handle: handle, Limit: &limit}}); err != nil {
			return seen, err
		}
		_, r, err := p.Response(fileSession)
		if err != nil {
			return seen, err
		}
		list, ok := r.Data.(*wire.ResultList)
		if !ok {
			return seen, errors.New(Outcome(r))
		}
		if len(list.Entries) == 0 {
			return seen, nil
		}
		for _, e := range list.Entries {
			seen[e.Path] = e
		}
	}
}

// otherNames are listed with a mark for each byte that is no text, and go with
// their directory.
func otherNames(p *Peer) error {
	if _, err := p.Say(`mkdir /dev/shm/o; cd /dev/shm/o; >$(printf 'a\377b'); ln -s $(printf 'to\376') l`); err != nil {
		return err
	}
	for _, r := range []row{
		{op: &wire.OpReadLink{Path: "/dev/shm/o/l"}, want: "to\ufffd"},
		{op: &wire.OpRemove{Path: "/dev/shm/o/l"}, want: "ok"},
		{op: &wire.OpList{Path: "/dev/shm/o"}, want: "[/dev/shm/o/a\ufffdb]"},
		{op: &wire.OpRemoveDir{Path: "/dev/shm/o", Recursive: true}, want: "ok"},
		{op: &wire.OpStat{Path: "/dev/shm/o"}, want: "stat: " + missing},
	} {
		got, err := p.File(r.op)
		if err == nil {
			err = same(describe(r.op), got, r.want)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// silentFifo opens each side of a fifo without the other: the open fails or succeeds,
// but never waits.
func silentFifo(p *Peer) error {
	if _, err := p.Say("mkfifo /h/silent"); err != nil {
		return err
	}
	got, err := p.File(&wire.OpOpenFile{Path: "/h/silent", Options: wire.OpenOptions{Write: true}})
	if err == nil {
		err = same("the writer", got, "open: No such device or address (os error 6)")
	}
	if err == nil {
		got, err = p.File(&wire.OpOpenFile{Path: "/h/silent", Options: wire.OpenOptions{Read: true}})
	}
	if err == nil {
		err = same("the reader", got, "handle")
	}
	return err
}

// waitingRead requests the attributes of a file during a blocked read, and closes it.
func waitingRead(p *Peer) error {
	h, err := p.OpenFile("/dev/kmsg", wire.OpenOptions{Read: true})
	if err != nil {
		return err
	}
	if err := p.Send(6, &wire.FSRequest{Op: &wire.OpRead{Handle: h}}); err != nil {
		return err
	}
	got, err := p.File(&wire.OpFStat{Handle: h})
	if err == nil && !strings.HasPrefix(got, "/dev/kmsg other ") {
		err = fmt.Errorf("the file is %q", got)
	}
	return errors.Join(err, p.closes(h), p.Other().alive())
}

// largeTree removes a tree while another client sends pings.
func largeTree(p *Peer) error {
	const removal = 7
	if err := p.Send(removal, &wire.FSRequest{Op: &wire.OpRemoveDir{Path: dir, Recursive: true}}); err != nil {
		return err
	}
	other := p.Other()
	before := 0
	for p.Left(removal) == 0 {
		if err := other.alive(); err != nil {
			return err
		}
		before++
	}
	// The agent's answers to the other that came before the removal's own say that
	// it was not alone; one of them may have overtaken nothing.
	const least = 2
	if before < least {
		return fmt.Errorf("%d answers before the removal's end", before)
	}
	return p.answers(removal, "ok")
}

func (p *Peer) alive() error {
	_, err := p.Round()
	return err
}
