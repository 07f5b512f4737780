package watch

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/agentd-go/agentd/wire"
)

// errMany says that a tree has more directories than can be watched.
var errMany = fmt.Errorf("more directories than can be watched: %w", unix.ENOSPC)

// add watches an open directory in a place, and lists it later. One that is watched already
// was renamed, and gets its new place.
//
//go:noinline
func (w *Watcher) add(at place, f *os.File) (*dir, error) {
	wd, err := unix.InotifyAddWatch(w.fd(), reach(int(f.Fd())), mask)
	if errors.Is(err, unix.ENOSPC) {
		err = errMany // fs.inotify.max_user_watches.
	}
	if err != nil {
		return nil, err
	}
	d := w.dirs[int32(wd)]
	if d == nil {
		if len(w.dirs) == maxDirs {
			return nil, errMany
		}
		d = &dir{wd: int32(wd)}
		w.dirs[d.wd] = d
	}
	d.walk = w.walk
	w.put(d, at)
	if w.how.Recursive {
		w.scan = append(w.scan, d)
	}
	return d, nil
}

// fd is inotify's descriptor. Only Close ends it, and a call on a closed one fails.
//
//go:noinline
func (w *Watcher) fd() (fd int) {
	fd = -1
	_ = w.raw.Control(func(n uintptr) { fd = int(n) })
	return fd
}

// reach is the path of an open file.
func reach(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// put gives a directory a place. Another directory that had the place has lost it. A place
// below the directory itself is one of the past: a listing has seen a later state already, and
// later events put it right.
//
//go:noinline
func (w *Watcher) put(d *dir, at place) {
	for up := at.in; up != nil; up = up.in {
		if up == d {
			return
		}
	}
	if w.named[d.place] == d {
		delete(w.named, d.place)
	}
	d.place = at
	if at.in != nil {
		w.named[at] = d
	}
}

// forget removes a directory whose watch the kernel has removed.
//
//go:noinline
func (w *Watcher) forget(d *dir) {
	delete(w.dirs, d.wd)
	if w.named[d.place] == d {
		delete(w.named, d.place)
	}
}

// drop ends the watches of a directory that has left the tree, and of those below it.
//
//go:noinline
func (w *Watcher) drop(gone *dir) {
	for _, d := range w.dirs {
		for up := d; up != nil; up = up.in {
			if up == gone {
				_, _ = unix.InotifyRmWatch(w.fd(), uint32(d.wd)) // It may have gone already.
				w.forget(d)
				break
			}
		}
	}
}

// appeared watches a new directory. One that is gone again, or is no directory now, is no
// error.
//
//go:noinline
func (w *Watcher) appeared(at place) error {
	if !w.how.Recursive {
		return nil
	}
	f, err := w.open(at, unix.O_PATH)
	if err == nil {
		_, err = w.add(at, f)
		_ = f.Close()
	}
	return unlessGone(err)
}

// unlessGone is nil for the errors of a directory that was replaced or may not be read.
//
//go:noinline
func unlessGone(err error) error {
	for _, e := range []error{unix.ENOENT, unix.ENOTDIR, unix.ELOOP, unix.EXDEV, unix.EACCES, unix.EPERM, unix.ENAMETOOLONG, unix.EAGAIN} {
		if errors.Is(err, e) {
			return nil
		}
	}
	return err
}

// open opens a directory of the tree. It follows no link below the top.
//
//go:noinline
func (w *Watcher) open(at place, flags int) (*os.File, error) {
	top, err := unix.Open(w.top, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(top) }()
	name := at.path()
	fd, err := unix.Openat2(top, name, &unix.OpenHow{
		Flags:   uint64(flags | unix.O_DIRECTORY | unix.O_CLOEXEC | unix.O_NOFOLLOW),
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// pending reports whether a directory is to be listed.
func (w *Watcher) pending() bool { return w.list != nil || len(w.scan) > 0 }

// step lists some more of the directories that are to be listed.
//
//go:noinline
func (w *Watcher) step() error {
	if w.list == nil {
		w.listed = w.scan[len(w.scan)-1]
		w.scan = w.scan[:len(w.scan)-1]
		f, err := w.open(w.listed.place, unix.O_RDONLY)
		if err != nil {
			return unlessGone(err)
		}
		w.list = f
	}
	const some = 256
	all, err := w.list.ReadDir(some)
	for _, e := range all {
		if err := w.found(place{w.listed, e.Name()}, e.IsDir()); err != nil {
			return err
		}
	}
	if err != nil {
		_ = w.list.Close()
		w.list = nil
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return unlessGone(err)
}

// found tells a name that a listing has, and watches it if it is a directory.
func (w *Watcher) found(at place, isDir bool) error {
	name := at.path()
	if len(name) >= unix.PathMax || w.how.Exclude.Match(name) {
		return nil
	}
	w.tell(wire.WatchCreate, isDir, name, "")
	if isDir {
		return w.appeared(at)
	}
	return nil
}
