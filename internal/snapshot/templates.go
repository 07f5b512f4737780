package snapshot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/agentd-go/agentd/internal/vmm"
)

const (
	// mostTemplates and mostBytes bound what templates take: two kernels in some
	// sizes, of about 100 MiB each.
	mostTemplates = 16
	mostBytes     = 2 << 30

	// leastRoom is what a disk must have left before a template is made: several times
	// what one takes. A monitor that finds no room for its guest's memory is killed.
	leastRoom = 1 << 30

	// failedFor is how long a template that could not be made, or that did no good, is
	// not tried again: each attempt makes the start of a machine longer.
	failedFor = time.Hour

	lockName = "lock"
	failed   = ".failed" // At the end of the name of a note of that.
)

// ErrBusy says that another process is making a template.
var ErrBusy = errors.New("another process is making a template")

// A FailedError is a template that is not tried again for a while.
type FailedError struct {
	Why string
	At  time.Time
}

// Error says why, and when it was.
func (e *FailedError) Error() string {
	return fmt.Sprintf("%s (at %s; tried again after %v)", e.Why, e.At.Format(time.TimeOnly), failedFor)
}

// A RoomError is a disk that has no room for a template.
type RoomError struct {
	Dir  string
	Free int64
}

func (e *RoomError) Error() string {
	return fmt.Sprintf("%s: %d MiB are free: a template is made where there are %d", e.Dir, e.Free>>20, int64(leastRoom)>>20)
}

// Templates are the templates in a directory, by their keys. Many processes may use
// them at once.
type Templates struct{ dir string }

// At returns the templates in dir, which is made when it is needed.
func At(dir string) Templates { return Templates{dir} }

func (t Templates) path(key string) string { return filepath.Join(t.dir, key) }

// Use opens the template of a key and notes the use. There is none where the error is
// fs.ErrNotExist, or a [FailedError]: then none is to be made. One that is damaged is
// removed.
func (t Templates) Use(key string) (*State, error) {
	s, err := Open(t.path(key))
	if err == nil && s.Manifest.Key != key {
		err = &DamagedError{t.path(key), errors.Join(fmt.Errorf("it has the key %.12s", s.Manifest.Key), s.Close())}
	}
	if _, damaged := errors.AsType[*DamagedError](err); damaged {
		if _, gone := os.Stat(t.path(key)); !errors.Is(gone, fs.ErrNotExist) {
			return nil, errors.Join(err, t.Remove(key))
		}
		err = fs.ErrNotExist // Somebody has removed it while we looked.
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, cmp.Or(t.noted(key), err)
	}
	if err == nil {
		now := time.Now()
		_ = os.Chtimes(t.path(key), now, now) // A cache of somebody else's has no order of ours.
	}
	return s, err
}

// noted returns the note of a failure, nil if there is none or it is old. One that
// cannot be read is none: then it is tried again.
func (t Templates) noted(key string) error {
	path := t.path(key) + failed
	info, err := os.Stat(path)
	why, unread := os.ReadFile(path)
	if errors.Join(err, unread) == nil && time.Since(info.ModTime()).Abs() < failedFor {
		return &FailedError{string(why), info.ModTime()}
	}
	return nil
}

// Make makes the template of the manifest's key, unless somebody else is making one
// (that is [ErrBusy], at once) or the disk has no room for one ([RoomError]). A failure
// is noted, unless ctx has ended. The least recently used templates go, beyond a number
// and a size.
func (t Templates) Make(ctx context.Context, m Manifest, fill func(context.Context, vmm.Saved) error) (err error) {
	if err := os.MkdirAll(t.dir, 0o700); err != nil {
		return err
	}
	lock, err := lockMaker(t.path(lockName))
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }()
	if _, err := os.Stat(t.path(m.Key)); err == nil {
		return nil // Somebody has made it just now.
	}
	t.sweep()
	if free, err := room(t.dir); err == nil && free < leastRoom {
		return &RoomError{t.dir, free}
	}
	m.Kind, m.Made = Template, time.Now().UTC()
	err = Create(t.path(m.Key), m, func(files vmm.Saved) error { return fill(ctx, files) })
	if err != nil {
		if ctx.Err() == nil {
			t.note(m.Key, err)
		}
		return err
	}
	return t.bound(m.Key)
}

// Refuse removes a template that did no good, and notes why.
func (t Templates) Refuse(key string, why error) error {
	t.note(key, why)
	return t.Remove(key)
}

// note may fail: then it is tried again sooner.
func (t Templates) note(key string, why error) {
	_ = os.WriteFile(t.path(key)+failed, []byte(why.Error()), 0o600)
}

// sweep removes what makers have left that did not live to their end, and old notes.
// Its caller is the maker.
func (t Templates) sweep() {
	entries, _ := os.ReadDir(t.dir)
	for _, e := range entries {
		name := e.Name()
		key, isNote := strings.CutSuffix(name, failed)
		if strings.HasSuffix(name, unfinished) || isNote && t.noted(key) == nil {
			_ = os.RemoveAll(t.path(name)) // What stays is tried again by the next.
		}
	}
}

// An Entry is a template as it is listed.
type Entry struct {
	Manifest
	Used  time.Time // For the last time.
	Bytes int64     // On the disk.
}

// List returns the templates, the least recently used first. One that is damaged, or of
// another version's format, has nothing but its key: it takes room as the others do.
func (t Templates) List() ([]Entry, error) {
	entries, err := os.ReadDir(t.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []Entry
	for _, e := range entries {
		if !e.IsDir() || strings.HasSuffix(e.Name(), unfinished) {
			continue
		}
		found, err := t.entry(e.Name())
		if err != nil {
			continue // It went away meanwhile.
		}
		all = append(all, found)
	}
	slices.SortFunc(all, func(a, b Entry) int { return a.Used.Compare(b.Used) })
	return all, nil
}

func (t Templates) entry(key string) (e Entry, err error) {
	dir := t.path(key)
	info, err := os.Stat(dir)
	if err != nil {
		return e, err
	}
	if e.read(dir) != nil {
		e.Manifest = Manifest{}
	}
	e.Key, e.Used = key, info.ModTime()
	for _, name := range []string{memoryName, stateName, manifestName} {
		if info, err := os.Stat(filepath.Join(dir, name)); err == nil {
			e.Bytes += allocated(info)
		}
	}
	return e, nil
}

// Remove removes the template of a key, if there is one. Machines that have started
// from it go on.
func (t Templates) Remove(key string) error {
	gone, err := os.MkdirTemp(t.dir, "gone-*"+unfinished)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	err = os.Rename(t.path(key), filepath.Join(gone, key)) // First, so that nobody finds a half of it.
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, os.RemoveAll(gone))
}

// Unused returns the templates from which no machine has started since a time, the
// least recently used first.
func (t Templates) Unused(since time.Time) ([]Entry, error) {
	all, err := t.List()
	return slices.DeleteFunc(all, func(e Entry) bool { return !e.Used.Before(since) }), err
}

// Prune removes the templates that [Templates.Unused] returns, notes of failures that
// are as old, and what makers have left unfinished. It returns the templates that it
// has removed. Machines that have started from one go on.
func (t Templates) Prune(since time.Time) (removed []Entry, err error) {
	unused, err := t.Unused(since)
	for _, e := range unused {
		if failed := t.Remove(e.Key); failed != nil {
			err = errors.Join(err, failed)
			continue
		}
		removed = append(removed, e)
	}
	return removed, errors.Join(err, t.tidy(since))
}

// tidy removes old notes, and unfinished templates unless a maker is at work.
func (t Templates) tidy(since time.Time) (err error) {
	notes, _ := filepath.Glob(t.path("*" + failed)) // The pattern is a good one.
	for _, n := range notes {
		if info, gone := os.Stat(n); gone == nil && info.ModTime().Before(since) {
			err = errors.Join(err, os.RemoveAll(n))
		}
	}
	if _, none := os.Stat(t.path(lockName)); none != nil {
		return err // Nobody has made a template here.
	}
	lock, failed := lockMaker(t.path(lockName))
	if errors.Is(failed, ErrBusy) {
		return err
	}
	if failed != nil {
		return errors.Join(err, failed)
	}
	t.sweep()
	return errors.Join(err, lock.Close())
}

// bound removes the least recently used templates beyond the bounds, but not the one
// that was just made.
func (t Templates) bound(made string) error {
	all, err := t.List()
	if err != nil {
		return err
	}
	var bytes int64
	for _, e := range all {
		bytes += e.Bytes
	}
	for n := len(all); len(all) > 0 && (n > mostTemplates || bytes > mostBytes); all = all[1:] {
		if all[0].Key == made {
			continue
		}
		if err := t.Remove(all[0].Key); err != nil {
			return err
		}
		n, bytes = n-1, bytes-all[0].Bytes
	}
	return nil
}
