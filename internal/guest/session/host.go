package session

import (
	"errors"
	"io/fs"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/agentd-go/agentd/internal/guest/plan"
	"github.com/agentd-go/agentd/internal/guest/proc"
	"github.com/agentd-go/agentd/internal/guest/sys"
	"github.com/agentd-go/agentd/internal/mux"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

const (
	// stdinMemory is what one session's input (a command's, a connection's, a
	// file's that is written) may hold in memory: a quarter of a reference
	// client's largest chunk (3 MiB) would spill at once and cost speed, so one
	// such chunk and what was read with it fits.
	stdinMemory = 4 << 20

	// stdinStored is what may wait on disk beyond that. A host that needs more
	// has no use for a receiver that does not read.
	stdinStored = 256 << 20

	// InputBudget bounds the input of all sessions in memory: four sessions at
	// their own bound; the others spill earlier.
	InputBudget = 4 * stdinMemory
)

// A Host is what all sessions of one agent share.
type Host struct {
	Generation wire.Generation
	Procs      *proc.Table
	Commands   plan.Commands
	Limits     []proc.Limit // Every command's, before those of its request.
	Writer     *mux.Writer
	Records    *mux.Writer // Of the second port, which raw records have to themselves; nil without one.
	Pool       *mux.Pool
	Input      *mux.Budget
	Spares     *frame.Spares // Bodies of data that has been passed on; nil keeps none.
	Files      *Files
	Activity   Activity

	// Incarnation is the connection that has an id, for the second port.
	Incarnation func(id uint32) [16]byte

	turns turns
	crew  crew

	waiting atomic.Int64 // Bytes of the long requests whose commands have not started.
	left    atomic.Int64 // Outputs that are read on for processes left behind.
	windows windows      // Of the flows into the guest.
	wide    atomic.Int32 // Commands whose input has a large pipe.

	patience mux.Patience // With sessions that do not take what the host sends.

	// accounts keeps the readers of /etc/passwd apart: an image can make it
	// plan.MaxAccountFile long, and a hundred commands may start at once.
	accounts sync.Mutex
	passwd   rememberedFile // Under accounts.
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

// inbox is where what the host sends to one session waits, up to memory bytes in memory.
func (h *Host) inbox(memory int) *mux.Inbox {
	return mux.NewInbox(mux.InboxConfig{
		Memory: memory, Budget: h.Input, Storage: spill, Stored: stdinStored, Patience: &h.patience,
	})
}

const (
	// longRequest is what a request for a command holds before it counts as long. Most
	// hold a few KiB; a thousand that are just not long are 32 MiB.
	longRequest = 32 << 10

	// maxWaiting bounds the long ones that wait for their start, which takes some
	// milliseconds, and for ever behind one that hangs: four of the longest.
	maxWaiting = 16 << 20
)

// admit takes the room of a request that is to wait for its start. The error says
// that there is none; else leave gives it back.
func (h *Host) admit(req *wire.ExecRequest) (leave func(), err error) {
	n := weight(req)
	if n <= longRequest {
		return func() {}, nil
	}
	if h.waiting.Add(n) > maxWaiting {
		h.waiting.Add(-n)
		return nil, syscall.EAGAIN
	}
	return func() { h.waiting.Add(-n) }, nil
}

// weight is what a request holds in memory.
func weight(req *wire.ExecRequest) (n int64) {
	const header = 16 // Of a string.
	for _, list := range [][]string{{req.Cmd, deref(req.Cwd), deref(req.User)}, req.Args, req.Env} {
		for _, s := range list {
			n += header + int64(len(s))
		}
	}
	return n
}

// account finds who spec is, in the files of the guest as they are now.
func (h *Host) account(spec string) (plan.Credential, error) {
	h.accounts.Lock()
	defer h.accounts.Unlock()
	if strings.TrimSpace(spec) != "" {
		return LookUpAccount(spec)
	}
	b, err := h.passwd.read("/etc/passwd")
	if err != nil {
		return plan.Credential{}, err
	}
	return plan.ResolveUser(spec, b, nil)
}

const (
	// rememberedBytes is the longest file that is remembered: the passwd of a
	// distribution has 1 to 4 KiB.
	rememberedBytes = 16 << 10

	// rememberAfter is how old a change must be for that: times of files advance
	// by ticks of the kernel, 10 ms at most, and in two seconds on some disks.
	rememberAfter = 2 * time.Second
)

// A rememberedFile spares the reading of a small file that has not changed, which
// every command would cost three turns to the file's server.
type rememberedFile struct {
	id      sys.FileID
	content []byte
}

func (f *rememberedFile) read(name string) ([]byte, error) {
	id, err := sys.Identify(name)
	if err == nil && f.content != nil && id == f.id {
		return f.content, nil
	}
	f.content = nil
	root, rootErr := sys.OpenRoot("/")
	if rootErr != nil {
		return nil, rootErr
	}
	defer func() { _ = root.Close() }()
	b := entries(root, name)
	if err == nil && int64(len(b)) == id.Size && len(b) <= rememberedBytes && time.Since(id.Changed()) > rememberAfter {
		f.id, f.content = id, b
	}
	return b, nil
}

// LookUpAccount resolves a user spec by /etc/passwd and /etc/group. Files that
// are not there or cannot be read have no entries: root needs none.
func LookUpAccount(spec string) (plan.Credential, error) {
	root, err := sys.OpenRoot("/")
	if err != nil {
		return plan.Credential{}, err
	}
	defer func() { _ = root.Close() }()
	var group []byte
	if strings.TrimSpace(spec) != "" { // Else no group is changed, and most requests say nothing.
		group = entries(root, "/etc/group")
	}
	return plan.ResolveUser(spec, entries(root, "/etc/passwd"), group)
}

func entries(root *sys.Root, name string) []byte {
	b, err := root.ReadFile(name, plan.MaxAccountFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		sys.Logf("%v", err) // Of a file that is too long, b is the part that counts.
	}
	return b
}
