package files

import (
	"errors"
	"io"
	"os"
	"strings"

	"github.com/agentd-go/agentd/internal/guest/session"
	"github.com/agentd-go/agentd/internal/guest/sys"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

const (
	// entryMost is the most that an entry takes in a frame besides its path: the nine
	// keys 49 bytes, numbers at their longest 51, the kind 8, heads 6.
	entryMost = 128
	// exactMost is the same of what an exact request asks for: eight numbers at their
	// longest 72 bytes, the key and the head 7.
	exactMost = 80

	// entryLeast is the same with numbers at their shortest.
	entryLeast = 64

	// listRoom is the room for entries in a frame: the envelope and the answer around
	// them take less than 256 bytes.
	listRoom = frame.MaxBody - 256

	// defaultPage is how many entries ReadDir gives if the request has no limit.
	defaultPage = 128

	// batch is how many names are read at a time: some 8 KiB, the kernel's own batch.
	batch = 256
)

// list reads a whole directory.
func (r *Request) list(name string) (wire.FSResult, error) {
	dir, err := sys.OpenFile(name, directory)
	if err != nil {
		return nil, err
	}
	defer func() { _ = dir.Close() }() // Read only: nothing to lose.
	answer := &wire.ResultList{Entries: []wire.FSEntry{}}
	for size := 0; ; {
		names, err := dir.Readdirnames(batch)
		for _, n := range names {
			e := entryIn(dir, name, n, false)
			answer.Entries = append(answer.Entries, e)
			size += entryLeast + len(e.Path)
		}
		switch {
		case size > listRoom:
			return nil, session.WholeError("readdir: the directory does not fit one answer; ReadDir gives it in pages")
		case errors.Is(err, io.EOF):
			return answer, nil
		case err != nil:
			return nil, session.WholeError("readdir " + name + ": " + session.Reason(err))
		}
		if size > smallAnswer {
			if err := r.grow(); err != nil {
				return nil, session.WholeError("readdir: " + session.Reason(err))
			}
		}
	}
}

// page returns the next entries of an open directory: as many as the request asks for,
// or as fit a small answer. An empty page is the end.
func (h *handle) page(limit *uint32, exact bool) (wire.FSResult, error) {
	most, entry := uint32(defaultPage), entryMost
	if exact {
		entry += exactMost
	}
	if limit != nil {
		most = max(*limit, 1)
	}
	h.pos.Lock()
	defer h.pos.Unlock()
	answer := &wire.ResultList{Entries: []wire.FSEntry{}}
	for size := 0; uint32(len(answer.Entries)) < most; {
		if len(h.names) == 0 {
			var err error
			h.names, err = h.file.Readdirnames(batch)
			if len(h.names) == 0 && !errors.Is(err, io.EOF) && len(answer.Entries) == 0 {
				return nil, session.WholeError("readdir " + h.path + ": " + session.Reason(err))
			}
			if len(h.names) == 0 {
				break // An error after entries comes again with the next page.
			}
		}
		e := entryIn(h.file, h.path, h.names[0], exact)
		if size += entry + len(e.Path); size > smallAnswer && len(answer.Entries) > 0 {
			break
		}
		answer.Entries = append(answer.Entries, e)
		h.names = h.names[1:]
	}
	return answer, nil
}

// entryIn describes the file name in the directory with this path. A file that cannot be
// described is listed nevertheless.
func entryIn(dir *os.File, path, name string, exact bool) wire.FSEntry {
	// The kernel gets the bytes of the name, the host gets text. A name that is not UTF-8
	// can be seen, and removed with its directory, but not addressed.
	shown := wire.ValidText(strings.TrimRight(path, "/") + "/" + name)
	s, err := sys.StatIn(dir, name)
	if err != nil {
		return wire.FSEntry{Path: shown, Kind: wire.EntryOther}
	}
	return entryWith(shown, &s, exact)
}
