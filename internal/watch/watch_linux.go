package watch

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentd-go/agentd/wire"
)

const (
	// maxDirs bounds the directories of one Watcher, and with them its memory.
	maxDirs = 1 << 16

	// queue is how much of the kernel's queue is read at once.
	queue = 64 << 10

	// enough is how many bytes of events are made before some are taken.
	enough = 16 << 10

	// pairing is how long the second half of a rename may take: the kernel queues it right
	// after the first, but another thread may come between.
	pairing = 10 * time.Millisecond

	mask = unix.IN_CREATE | unix.IN_MODIFY | unix.IN_CLOSE_WRITE | unix.IN_ATTRIB | unix.IN_DELETE |
		unix.IN_MOVED_FROM | unix.IN_MOVED_TO | unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_EXCL_UNLINK
)

// A Watcher watches a directory or a tree.
type Watcher struct {
	how  Options
	file *os.File // inotify's.
	raw  syscall.RawConn
	top  string // The watched directory, without links.
	root *dir

	dirs  map[int32]*dir // By the numbers of their watches.
	named map[place]*dir

	unread []byte // Of the kernel's queue.
	buffer [queue]byte
	out    []byte // Events that were made and not taken.
	scan   []*dir // Directories that are to be listed.
	list   *os.File
	listed *dir // The directory that list is.
	silent bool // What is listed is not told.
	walk   int  // Counts walks of the whole tree.
	err    error
}

// A dir is a watched directory.
type dir struct {
	place
	wd   int32
	walk int // The walk that has seen it.
}

// A place is a name in a directory. The top has none.
type place struct {
	in   *dir
	name string
}

// New makes a Watcher that watches nothing yet. It does not wait.
func New(how Options) (*Watcher, error) {
	if err := how.Exclude.Check(); err != nil {
		return nil, err
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "inotify")
	raw, err := file.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &Watcher{how: how, file: file, raw: raw, dirs: map[int32]*dir{}, named: map[place]*dir{}}, nil
}

// Begin watches a directory, or a file, and all directories below it if that was asked for.
// All that happens after it is told.
//
//go:noinline
func (w *Watcher) Begin(name string) error {
	fd, err := unix.Open(name, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	top := os.NewFile(uintptr(fd), name)
	if w.top, err = os.Readlink(reach(fd)); err == nil {
		w.silent = true
		w.root, err = w.add(place{}, top)
	}
	// It must not stay open: the kernel tells the end of a file after the last descriptor has gone.
	_ = top.Close()
	for err == nil && w.pending() {
		err = w.step()
	}
	w.silent = false
	w.tell(wire.WatchReady, true, ".", "")
	return err
}

// Close ends the watch, and a Wait in another goroutine.
func (w *Watcher) Close() {
	_ = w.file.Close() // Nothing is written to it.
}

// Release gives back what Begin has opened, after the last use.
func (w *Watcher) Release() {
	w.Close()
	if w.list != nil {
		_ = w.list.Close()
	}
}

// Wait waits until the kernel's queue has events. It fails after Close.
func (w *Watcher) Wait() error { return w.fetch(true) }

// fetch reads the kernel's queue into the buffer. Without wait the queue may be empty.
//
//go:noinline
func (w *Watcher) fetch(wait bool) (err error) {
	have := copy(w.buffer[:], w.unread)
	n := 0
	readErr := w.raw.Read(func(fd uintptr) bool {
		n, err = unix.Read(int(fd), w.buffer[have:])
		return !wait || !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR)
	})
	w.unread = w.buffer[:have+max(n, 0)]
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
		err = nil
	}
	return errors.Join(readErr, err)
}

// Take copies events that are there into b: whole ones may be split over two calls. 0 without
// an error means that none are there. It never waits for one. The error of the end is io.EOF.
func (w *Watcher) Take(b []byte) (int, error) {
	for len(w.out) < len(b) && w.err == nil && (w.pending() || len(w.unread) > 0 || w.fetch(false) == nil && len(w.unread) > 0) {
		if w.pending() {
			w.err = w.step()
		} else {
			w.err = w.one()
		}
		if len(w.out) >= enough {
			break
		}
	}
	n := copy(b, w.out)
	w.out = w.out[n:]
	if len(w.out) == 0 {
		w.out = nil
		if n == 0 {
			return 0, w.err
		}
	}
	return n, nil
}

//go:noinline
func (w *Watcher) tell(kind wire.WatchKind, isDir bool, name, old string) {
	if !w.silent {
		w.out = wire.AppendWatchEvent(w.out, &wire.WatchEvent{Kind: kind, Dir: isDir, Name: name, Old: old})
	}
}

// path returns the name of a place, "." for the top.
//
//go:noinline
func (p place) path() string {
	parts := []string{p.name}
	for d := p.in; d != nil && d.in != nil; d = d.in {
		parts = append(parts, d.name)
	}
	if p.in == nil {
		return "."
	}
	slices.Reverse(parts)
	return strings.Join(parts, "/")
}

// one handles the next event of the kernel: watch i32, mask u32, cookie u32, length u32 and
// the name, filled up with NULs (inotify(7)).
//
//go:noinline
func (w *Watcher) one() error {
	e, size := eventIn(w.unread)
	w.unread = w.unread[size:]
	d := w.dirs[e.wd]
	switch {
	case e.mask&unix.IN_Q_OVERFLOW != 0:
		return w.overflow()
	case d == nil:
		return nil // It is no longer watched.
	case e.mask&(unix.IN_DELETE_SELF|unix.IN_MOVE_SELF|unix.IN_UNMOUNT|unix.IN_IGNORED) != 0:
		if d == w.root {
			w.tell(wire.WatchGone, true, ".", "")
			return io.EOF
		}
		if e.mask&unix.IN_IGNORED != 0 {
			w.forget(d)
		}
		return nil
	}
	return w.changed(d, e)
}

// An event is one of the kernel's.
type event struct {
	wd           int32
	mask, cookie uint32
	name         string
}

const (
	eventHead = unix.SizeofInotifyEvent
	atMask    = 4
	atCookie  = 8
	atLength  = 12
)

// eventIn returns the event that b begins with. The kernel gives whole events.
func eventIn(b []byte) (e event, size int) {
	size = eventHead + int(binary.NativeEndian.Uint32(b[atLength:]))
	e = event{
		wd:   int32(binary.NativeEndian.Uint32(b)),
		mask: binary.NativeEndian.Uint32(b[atMask:]), cookie: binary.NativeEndian.Uint32(b[atCookie:]),
	}
	e.name, _, _ = strings.Cut(string(b[eventHead:size]), "\x00")
	return e, size
}

// changed tells an event of a directory that is watched.
func (w *Watcher) changed(d *dir, e event) error {
	at := place{d, e.name}
	if e.name == "" {
		if d == w.root {
			w.simple(e, ".")
		}
		return nil // The event of the directory above says it too.
	}
	name, isDir := at.path(), e.mask&unix.IN_ISDIR != 0
	if len(name) >= unix.PathMax || w.how.Exclude.Match(name) && e.mask&unix.IN_MOVED_FROM == 0 {
		return nil
	}
	switch {
	case e.mask&(unix.IN_CREATE|unix.IN_MOVED_TO) != 0:
		w.tell(wire.WatchCreate, isDir, name, "")
		if isDir {
			return w.appeared(at)
		}
	case e.mask&unix.IN_MOVED_FROM != 0:
		return w.moved(at, e, name, isDir)
	case e.mask&unix.IN_DELETE != 0:
		w.tell(wire.WatchRemove, isDir, name, "")
	default:
		w.simple(e, name)
	}
	return nil
}

// simple tells an event that changes no name.
func (w *Watcher) simple(e event, name string) {
	isDir := e.mask&unix.IN_ISDIR != 0
	switch {
	case e.mask&unix.IN_MODIFY != 0:
		w.tell(wire.WatchModify, isDir, name, "")
	case e.mask&unix.IN_CLOSE_WRITE != 0:
		w.tell(wire.WatchClose, isDir, name, "")
	case e.mask&unix.IN_ATTRIB != 0:
		w.tell(wire.WatchAttrib, isDir, name, "")
	}
}

// moved tells a name that has left its directory: with the name that it has now, if the second
// half of the rename comes.
func (w *Watcher) moved(from place, e event, name string, isDir bool) error {
	to, found := w.second(e.cookie)
	if !found {
		_ = w.file.SetReadDeadline(time.Now().Add(pairing))
		_ = w.fetch(true)
		_ = w.file.SetReadDeadline(time.Time{})
		to, found = w.second(e.cookie)
	}
	hidden := w.how.Exclude.Match(name)
	now := to.path()
	if found && (w.how.Exclude.Match(now) || len(now) >= unix.PathMax) {
		found = false
	}
	switch {
	case found && !hidden:
		w.tell(wire.WatchRename, isDir, now, name)
	case found:
		w.tell(wire.WatchCreate, isDir, now, "")
	case !hidden:
		w.tell(wire.WatchRemove, isDir, name, "")
	}
	if !isDir {
		return nil
	}
	d := w.named[from]
	if d == nil && found {
		return w.appeared(to)
	}
	if d != nil && found {
		w.put(d, to)
	} else if d != nil {
		w.drop(d)
	}
	return nil
}

// second finds the second half of a rename among the events that were read, and removes it.
func (w *Watcher) second(cookie uint32) (to place, found bool) {
	for b := w.unread; len(b) >= eventHead; {
		e, size := eventIn(b)
		if d := w.dirs[e.wd]; d != nil && e.mask&unix.IN_MOVED_TO != 0 && e.cookie == cookie {
			binary.NativeEndian.PutUint32(b[atMask:], 0)
			return place{d, e.name}, true
		}
		b = b[size:]
	}
	return to, false
}

// overflow looks for directories that were missed, and says that events were lost.
func (w *Watcher) overflow() error {
	w.walk++
	w.root.walk = w.walk
	w.scan, w.silent = append(w.scan[:0], w.root), true
	var err error
	for err == nil && w.pending() {
		err = w.step()
	}
	w.silent = false
	for _, d := range w.dirs {
		if d.walk != w.walk { // Its end was among what was lost.
			_, _ = unix.InotifyRmWatch(w.fd(), uint32(d.wd))
			w.forget(d)
		}
	}
	w.tell(wire.WatchOverflow, true, ".", "")
	return err
}
