package exec

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/agentd-go/agentd/internal/guest/plan"
	"github.com/agentd-go/agentd/internal/guest/proc"
	"github.com/agentd-go/agentd/internal/guest/session"
	"github.com/agentd-go/agentd/internal/guest/sys"
	"github.com/agentd-go/agentd/wire"
)

// A Runner starts commands. Its exported fields are set before the first.
type Runner struct {
	Host     *session.Host
	Procs    *proc.Table
	Defaults plan.Commands
	Limits   []proc.Limit // Every command's, before those of its request.

	waiting atomic.Int64 // Bytes of the long requests whose commands have not started.
	left    atomic.Int64 // Outputs that are read on for processes left behind.
	wide    atomic.Int32 // Commands whose input has a large pipe.

	// accounts keeps the readers of /etc/passwd apart: an image can make it
	// plan.MaxAccountFile long, and a hundred commands may start at once.
	accounts sync.Mutex
	passwd   rememberedFile // Under accounts.
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
func (r *Runner) admit(req *wire.ExecRequest) (leave func(), err error) {
	n := weight(req)
	if n <= longRequest {
		return func() {}, nil
	}
	if r.waiting.Add(n) > maxWaiting {
		r.waiting.Add(-n)
		return nil, syscall.EAGAIN
	}
	return func() { r.waiting.Add(-n) }, nil
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
func (r *Runner) account(spec string) (plan.Credential, error) {
	r.accounts.Lock()
	defer r.accounts.Unlock()
	if strings.TrimSpace(spec) != "" {
		return LookUpAccount(spec)
	}
	b, err := r.passwd.read("/etc/passwd")
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

const (
	// widePipe is what the pipe to a command has room for whose host is faster than it
	// is: they take turns less often.
	widePipe = 256 << 10

	// maxWide bounds their number, since pipes are memory of the kernel: 4 MiB.
	maxWide = 16

	// wideAbove tells a flood of input from what somebody types.
	wideAbove = 16 << 10
)

// widen gives the pipe to a command more room, if not too many have it. narrow says
// that the pipe is closed.
func (r *Runner) widen(w *os.File) (narrow func()) {
	if r.wide.Add(1) <= maxWide {
		sys.GrowPipe(w, widePipe)
	}
	return func() { r.wide.Add(-1) }
}
