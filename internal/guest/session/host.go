package session

import (
	"errors"
	"sync"

	"github.com/agentd-go/agentd/internal/guest/sys"
	"github.com/agentd-go/agentd/internal/mux"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

const (
	// InputMemory is how much input one session (a command, a connection, a file that
	// is written) may hold in memory. The largest chunk of a reference client (3 MiB)
	// fits, with the bytes read along with it: a smaller bound would spill it to disk.
	InputMemory = 4 << 20

	// inputStored is how much more may wait on disk. A receiver that leaves so much
	// unread is taken as dead.
	inputStored = 256 << 20

	// MaxInput bounds the waiting input of one session, in memory and on disk.
	MaxInput = InputMemory + inputStored

	// InputBudget bounds the input of all sessions in memory: four sessions at
	// their own bound; the others spill earlier.
	InputBudget = 4 * InputMemory
)

// A Host has what all sessions of one agent share.
type Host struct {
	Generation wire.Generation
	Writer     *mux.Writer
	Records    *mux.Writer // Writes raw records to the second port; nil without one.
	Pool       *mux.Pool
	Input      *mux.Budget
	Spares     *frame.Spares // Memory of frames whose data has been passed on, for reuse; nil keeps none.
	Activity   Activity
	Credit     *Credit // nil for hosts that have none.

	// Incarnation returns the connection that owns an id, for the second port.
	Incarnation func(id uint32) [16]byte

	littles    sync.Pool // Of *littleFrame.
	turns      turns
	goroutines goroutines

	windows windows // Credit windows of the flows into the guest.

	pauses mux.PauseBudget // Bounds the waits for sessions that do not read their input.
}

// spillDirs are the directories for bytes that wait on disk; the first usable one is
// taken. /var/tmp is on disk in most images, so a flood does not fill the guest's memory.
var spillDirs = [...]string{"/var/tmp", "/tmp", "/"}

// Spill returns a file without a name for bytes that wait on disk.
func Spill() (mux.Storage, error) {
	var errs []error
	for _, dir := range spillDirs {
		f, err := sys.TempFile(dir)
		if err == nil {
			return f, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// Inbox returns the queue for the input of one session. It holds up to memory bytes in
// memory, and more on disk.
func (h *Host) Inbox(memory int) *mux.Inbox {
	return mux.NewInbox(mux.InboxConfig{
		Memory: memory, Budget: h.Input, Storage: Spill, Stored: inputStored, Pauses: &h.pauses,
	})
}

// Go runs f on an idle goroutine of the pool, or on a new one.
func (h *Host) Go(f func()) { h.goroutines.do(f) }

// StartGrace starts the grace of a new command: floods may pause until the returned
// function is called, and 100 ms at most.
func (h *Host) StartGrace() (end func()) { return h.turns.grace.begin() }
