package session

import (
	"errors"

	"github.com/agentd-go/agentd/internal/guest/sys"
	"github.com/agentd-go/agentd/internal/mux"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

const (
	// InputMemory is what one session's input (a command's, a connection's, a
	// file's that is written) may hold in memory: a quarter of a reference
	// client's largest chunk (3 MiB) would spill at once and cost speed, so one
	// such chunk and what was read with it fits.
	InputMemory = 4 << 20

	// inputStored is what may wait on disk beyond that. A host that needs more
	// has no use for a receiver that does not read.
	inputStored = 256 << 20

	// MaxInput is what may wait of one session's input altogether.
	MaxInput = InputMemory + inputStored

	// InputBudget bounds the input of all sessions in memory: four sessions at
	// their own bound; the others spill earlier.
	InputBudget = 4 * InputMemory
)

// A Host is what all sessions of one agent share.
type Host struct {
	Generation wire.Generation
	Writer     *mux.Writer
	Records    *mux.Writer // Of the second port, which raw records have to themselves; nil without one.
	Pool       *mux.Pool
	Input      *mux.Budget
	Spares     *frame.Spares // Bodies of data that has been passed on; nil keeps none.
	Activity   Activity
	Credit     *Credit // nil for hosts that have none.

	// Incarnation is the connection that has an id, for the second port.
	Incarnation func(id uint32) [16]byte

	turns      turns
	goroutines goroutines

	windows windows // Of the flows into the guest.

	pauses mux.PauseBudget // With sessions that do not take what the host sends.
}

// spillDirs are where input waits on disk, the first that can be used. The first
// is on disk in most images, so that a flood does not take the guest's memory.
var spillDirs = [...]string{"/var/tmp", "/tmp", "/"}

func spill() (mux.Storage, error) {
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

// Inbox is where what the host sends to one session waits, up to memory bytes in memory.
func (h *Host) Inbox(memory int) *mux.Inbox {
	return mux.NewInbox(mux.InboxConfig{
		Memory: memory, Budget: h.Input, Storage: spill, Stored: inputStored, Pauses: &h.pauses,
	})
}

// Go runs f on a goroutine, one that has been used before if there is one.
func (h *Host) Go(f func()) { h.goroutines.do(f) }

// StartGrace is for a command that begins: floods may pause for it until the returned
// function is called, or for a moment.
func (h *Host) StartGrace() (end func()) { return h.turns.grace.begin() }
