package proc

import (
	"errors"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/agentd-go/agentd/internal/guest/sys"
)

const (
	// settled is how old a directory's last change must be for its times to tell it
	// from the next one: they advance by ticks of the kernel, 10 ms at most, and in
	// two seconds on some disks.
	settled = 2 * time.Second

	// believed is how long a remembered absence counts: who serves the root may let
	// the kernel keep a directory's times for a day, and the host may add programs.
	believed = 2 * time.Second

	// maxAbsences bounds them: a client runs few programs, each is missed in at most
	// six places of a usual PATH.
	maxAbsences = 256
)

// absences remember where programs were looked for and nothing was, as long as the
// directory has not changed. The kernel does not: each look would be a turn to the
// root's server, for each place of PATH before the right one.
type absences struct {
	root uint64 // The device that directories must be on: others may have times that say nothing.

	mu    sync.Mutex
	known map[string]absence // By path.
}

type absence struct {
	dir   sys.FileID
	asked time.Time
}

// check returns ENOENT or ENOTDIR if there is certainly nothing of that path, nil
// else. A link that leads nowhere is something: what it leads to may come without
// a change of this directory.
func (a *absences) check(name string) error {
	dir, err := sys.Identify(name[:strings.LastIndexByte(name, '/')+1] + ".") // Behind a link.
	if err != nil {
		return clearly(err)
	}
	if a.knows(name, dir) {
		return syscall.ENOENT
	}
	asked := time.Now()
	_, err = sys.Identify(name)
	err = clearly(err)
	if err != nil && dir.On(a.root) && asked.Sub(dir.Changed()) > settled {
		a.note(name, absence{dir, asked})
	}
	return err
}

// clearly leaves out errors that only stand in the way: what is there, the start of
// the program says.
func clearly(err error) error {
	if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ENOTDIR) {
		return err
	}
	return nil
}

func (a *absences) knows(name string, dir sys.FileID) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	known, ok := a.known[name]
	return ok && known.dir == dir && time.Since(known.asked) < believed
}

func (a *absences) note(name string, n absence) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.known == nil || len(a.known) >= maxAbsences {
		a.known = map[string]absence{}
	}
	a.known[name] = n
}
