package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
)

// OpWatch sends what changes in a directory, as the data of OpRead: WatchEvents, one after
// the other. It goes on until the directory is gone or the host cancels it. It needs an offer
// of raw records, and ExtensionWatch.
type OpWatch struct {
	Path      string
	Recursive bool
	Exclude   []string // Patterns of names that are left out, as in OpPack.
}

func (o *OpWatch) op() (string, value) {
	return "Watch", entries{
		required("path", text(&o.Path)),
		omitted("recursive", truth(&o.Recursive)),
		omitted("exclude", texts(&o.Exclude)),
	}
}

// WatchKind is what happened.
type WatchKind byte

// The kinds of events. Protocol section 9.10 describes each.
const (
	WatchReady    WatchKind = 'y' // All that happens from now on is told.
	WatchCreate   WatchKind = 'c' // A name is there.
	WatchModify   WatchKind = 'm' // Contents were changed.
	WatchClose    WatchKind = 'w' // A file that was open for writing was closed.
	WatchAttrib   WatchKind = 'a' // Attributes were changed.
	WatchRemove   WatchKind = 'd' // A name is no longer there.
	WatchRename   WatchKind = 'r' // Old is Name now.
	WatchOverflow WatchKind = 'o' // Events were lost: list the tree again.
	WatchGone     WatchKind = 'g' // The directory itself was removed, renamed or unmounted: the last event.
)

// A WatchEvent is one event of OpWatch.
type WatchEvent struct {
	Kind WatchKind
	Dir  bool   // It is a directory.
	Name string // Relative to the watched directory, which is "."; any bytes but NUL.
	Old  string // The name before, of WatchRename.
}

// MaxWatchEvent is the longest event in bytes: two paths and their heads.
const MaxWatchEvent = 2*4096 + 8

// watchHead is the length of the rest (u16, big endian), the kind and the type of the file.
const watchHead = 4

// AppendWatchEvent appends an event.
//
//go:noinline
func AppendWatchEvent(b []byte, e *WatchEvent) []byte {
	at, kind := len(b), byte('f')
	if e.Dir {
		kind = 'd'
	}
	b = append(b, 0, 0, byte(e.Kind), kind)
	b = append(b, e.Name...)
	if e.Kind == WatchRename {
		b = append(append(b, 0), e.Old...)
	}
	binary.BigEndian.PutUint16(b[at:], uint16(len(b)-at-2))
	return b
}

var errWatchEvent = errors.New("an event of a watch has no valid form")

// ParseWatchEvent reads the event that b begins with, and returns what follows it. ok is false
// if the event is not yet complete.
func ParseWatchEvent(b []byte) (e WatchEvent, rest []byte, ok bool, err error) {
	if len(b) < 2 {
		return e, b, false, nil
	}
	n := int(binary.BigEndian.Uint16(b)) + 2
	if n < watchHead || n > MaxWatchEvent {
		return e, b, false, errWatchEvent
	}
	if len(b) < n {
		return e, b, false, nil
	}
	name, old, two := bytes.Cut(b[watchHead:n], []byte{0})
	e = WatchEvent{Kind: WatchKind(b[2]), Dir: b[3] == 'd', Name: string(name), Old: string(old)}
	if len(name) == 0 || two != (e.Kind == WatchRename) || two && (len(old) == 0 || bytes.IndexByte(old, 0) >= 0) {
		return e, b, false, errWatchEvent
	}
	return e, b[n:], true, nil
}
