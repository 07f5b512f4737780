package exec

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
	"github.com/agentd-go/agentd/internal/guest/session"
	"github.com/agentd-go/agentd/internal/guest/sys"
	"github.com/agentd-go/agentd/wire"
)

// A Runner starts commands. Its exported fields are set before the first command.
type Runner struct {
	Host     *session.Host
	Procs    *proc.Table
	Defaults plan.Commands
	Limits   []proc.Limit // For every command, before the limits of its request.

	waiting atomic.Int64 // Bytes of long requests whose commands have not started.
	left    atomic.Int64 // Outputs that are drained for processes that outlive their command.
	wide    atomic.Int32 // Commands whose input has a large pipe.

	keeps keeps

	// accounts lets one command at a time read /etc/passwd: an image can make the file
	// plan.MaxAccountFile long, and a hundred commands may start at once.
	accounts sync.Mutex
	passwd   rememberedFile // Guarded by accounts.
}

const (
	// longRequest is the size above which a request for a command counts as long. Most
	// requests take a few KiB; a thousand of this size are 32 MiB.
	longRequest = 32 << 10

	// maxWaiting bounds the long requests that wait for their start: four of the longest.
	// A start takes some milliseconds, but it never ends if the start before it hangs.
	maxWaiting = 16 << 20
)

// admit reserves memory for a request until its start. The error says that there is
// none; leave gives the memory back.
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

// weight is the size of a request in memory.
func weight(req *wire.ExecRequest) (n int64) {
	const header = 16 // Of a string.
	for _, list := range [][]string{{req.Cmd, deref(req.Cwd), deref(req.User)}, req.Args, req.Env} {
		for _, s := range list {
			n += header + int64(len(s))
		}
	}
	return n
}

// account resolves a user spec by the guest's current files.
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
	// rememberedBytes is the longest file that is cached: the passwd of a distribution
	// has 1 to 4 KiB.
	rememberedBytes = 16 << 10

	// rememberAfter is the least age of a file that is cached: a younger one could change
	// again with the same time stamp. Time stamps advance in steps of 10 ms at most, and
	// of 2 s on some disks.
	rememberAfter = 2 * time.Second
)

// A rememberedFile caches a small file until it changes. Reading it for each command
// would cost three requests to the host's file server.
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

// LookUpAccount resolves a user spec by /etc/passwd and /etc/group. A file that is
// missing or unreadable counts as empty: root needs no entry.
func LookUpAccount(spec string) (plan.Credential, error) {
	root, err := sys.OpenRoot("/")
	if err != nil {
		return plan.Credential{}, err
	}
	defer func() { _ = root.Close() }()
	var group []byte
	if strings.TrimSpace(spec) != "" { // A blank spec changes no group. Most requests have one.
		group = entries(root, "/etc/group")
	}
	return plan.ResolveUser(spec, entries(root, "/etc/passwd"), group)
}

func entries(root *sys.Root, name string) []byte {
	b, err := root.ReadFile(name, plan.MaxAccountFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		sys.Logf("%v", err) // If the file is too long, b is its usable first part.
	}
	return b
}

const (
	// widePipe is the size of the pipe to a command whose host sends faster than the
	// command reads: the agent and the command then alternate less often.
	widePipe = 256 << 10

	// maxWide bounds the number of wide pipes. Together they take 4 MiB of kernel memory.
	maxWide = 16

	// wideAbove is the least first piece of input that counts as a flood: nobody types so
	// much.
	wideAbove = 16 << 10
)

// widen enlarges the pipe to a command, unless too many are large. The caller calls
// narrow when the pipe is closed.
func (r *Runner) widen(w syscall.Conn) (narrow func()) {
	if r.wide.Add(1) <= maxWide {
		sys.GrowPipe(w, widePipe)
	}
	return func() { r.wide.Add(-1) }
}
