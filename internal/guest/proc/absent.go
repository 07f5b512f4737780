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
	// settled is the least age of a directory's last change: a later change could have the
	// same time stamp otherwise. Time stamps advance in steps of 10 ms at most, and of 2 s
	// on some disks.
	settled = 2 * time.Second

	// believed is how long a cached absence counts. The root's server may let the kernel
	// cache a directory's times for a day, and the host may add programs meanwhile.
	believed = 2 * time.Second

	// maxAbsences bounds the cache: a client runs few programs, and each is missed in at
	// most six places of a usual PATH.
	maxAbsences = 256
)

// absences caches the paths where no program was found, until the directory changes. The
// kernel does not cache them for a served root: each place of PATH before the right one
// would cost a request to the server.
type absences struct {
	root uint64 // The device of the directories: others may have unreliable times.

	mu    sync.Mutex
	known map[string]absence // By path.
}

type absence struct {
	dir   sys.FileID
	asked time.Time
}

// check returns ENOENT or ENOTDIR if nothing has that path for certain, nil otherwise. A
// dangling link counts as something: its target may appear without a change of this
// directory.
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

// clearly returns an error that proves the absence, and nil for any other: the start of the
// program decides then.
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
