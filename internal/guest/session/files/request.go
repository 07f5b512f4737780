package files

import (
	"errors"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/agentd-go/agentd/internal/guest/session"
	"github.com/agentd-go/agentd/wire"
)

// A Request is one operation on files whose answer is one frame.
type Request struct {
	*session.Base
	client *client
	job    job
	err    error // Why there is no job.
	large  bool  // Its answer holds a place in Table.large.
}

// A job is a request whose handle has been found.
type job struct {
	prefix string                                // Precedes the text of an error.
	do     func(*Request) (wire.FSResult, error) // nil does nothing.
	handle *handle                               // Released when the job is done; nil for an operation on paths.
	waits  bool                                  // It takes its places itself, and holds none while it waits.
}

// Start begins an operation of the client in a slot and returns at once. Handles are
// looked up and closed before it returns, so a client's requests see them in the order in
// which they were sent.
func (f *Table) Start(h *session.Host, id uint32, slot int, req *wire.FSRequest, ending session.Ending) session.Session {
	c := f.client(slot)
	base := func(gauge *atomic.Int64) *session.Base { return h.NewBase(id, ending, unsent, gauge) }
	if op, ok := req.Op.(*wire.OpRead); ok {
		return startRead(base(&h.Activity.FileStreams), c, op, req.Bulk)
	}
	if op, ok := req.Op.(*wire.OpWrite); ok {
		return startWrite(base(&h.Activity.FileStreams), c, op, req.Bulk)
	}
	if op, ok := req.Op.(*wire.OpPack); ok {
		return startOutflow(base(&h.Activity.FileStreams), c, "pack", op.Path, req.Bulk, &packing{op: op}, nil)
	}
	if op, ok := req.Op.(*wire.OpUnpack); ok {
		return startUnpack(base(&h.Activity.FileStreams), c, op, req.Bulk)
	}
	if op, ok := req.Op.(*wire.OpWatch); ok {
		return startWatch(base(&h.Activity.FileStreams), c, op, req.Bulk)
	}
	r := &Request{Base: base(nil), client: c}
	r.job, r.err = c.job(req.Op)
	h.Go(r.work)
	return r
}

func (r *Request) work() { r.Guard(r.run, func(why string) { r.finish(fileFailed(why)) }) }

func (r *Request) run() {
	var result wire.FSResult
	if r.err == nil {
		result, r.err = r.perform(r.job)
	}
	r.finish(fileResponse(r.job.prefix, result, r.err))
}

// perform does the job when it gets a place among the calls.
func (r *Request) perform(j job) (result wire.FSResult, err error) {
	if j.handle != nil {
		defer j.handle.release()
	}
	if j.do == nil { // To release the handle is all.
		return nil, nil
	}
	if j.waits {
		return j.do(r)
	}
	if refused := r.client.call(func() { result, err = j.do(r) }); refused != nil {
		err = refused
	}
	return result, err
}

// finish sends the answer. It gives back the place of a large answer after that has left.
func (r *Request) finish(last wire.Message) {
	r.End(r, last)
	if r.large {
		r.large = false
		<-r.client.files.large
	}
}

// grow waits for a place among the large answers.
func (r *Request) grow() error {
	if r.large {
		return nil
	}
	deadline := time.NewTimer(callDeadline)
	defer deadline.Stop()
	err := r.client.take(r.client.files.large, deadline.C)
	r.large = err == nil
	return err
}

func fileResponse(prefix string, result wire.FSResult, err error) *wire.FSResponse {
	if whole, ok := errors.AsType[session.WholeError](err); ok {
		return fileFailed(string(whole))
	}
	if err != nil {
		return fileFailed(prefix + session.Reason(err))
	}
	return &wire.FSResponse{OK: true, Data: result}
}

func fileFailed(why string) *wire.FSResponse { return &wire.FSResponse{Error: &why} }

// unsent replaces an answer that does not fit a frame.
func unsent(why error) wire.Message { return fileFailed("answer: " + why.Error()) }

// maxPath is the kernel's bound for a path with its end (PATH_MAX, limits.h).
const maxPath = 4096

// errPathNUL refuses a path with a NUL in it: the kernel would see only the part before.
var errPathNUL = errors.New("file name contained an unexpected NUL byte")

// named is a job on paths.
func named(prefix string, do func(*Request) (wire.FSResult, error), paths ...string) (job, error) {
	for _, p := range paths {
		// The kernel would refuse it too. But a thousand such requests that wait for
		// a place must not hold a frame each.
		if len(p) >= maxPath {
			return job{prefix: prefix}, syscall.ENAMETOOLONG
		}
		if strings.IndexByte(p, 0) >= 0 {
			return job{prefix: prefix}, errPathNUL
		}
	}
	return job{prefix: prefix, do: do}, nil
}

// held is a job on a handle that was acquired.
func held(prefix string, h *handle, err error, do func(*Request) (wire.FSResult, error)) (job, error) {
	return job{prefix: prefix, do: do, handle: h}, err
}

// silent makes the function of a job that has no result.
func silent(f func() error) func(*Request) (wire.FSResult, error) {
	return func(*Request) (wire.FSResult, error) { return nil, f() }
}

// job makes the job of an operation. It reads memory only and does not wait. The linter
// checks that every operation has a case here.
func (c *client) job(op wire.FSOp) (job, error) {
	switch op := op.(type) {
	case *wire.OpOpenFile:
		if err := checkOptions(&op.Options); err != nil {
			return job{prefix: "open: "}, err
		}
		return named("open: ", func(*Request) (wire.FSResult, error) { return c.open(op.Path, accessOf(&op.Options)) }, op.Path)
	case *wire.OpOpenDir:
		return named("opendir: ", func(*Request) (wire.FSResult, error) { return c.open(op.Path, directory) }, op.Path)
	case *wire.OpCloseHandle:
		h, err := c.acquire(op.Handle)
		if err == nil {
			h.drop() // Running operations go on; the file closes after the last one.
		}
		return held("close: ", h, err, nil)
	case *wire.OpReadDir:
		h, err := c.acquireDir(op.Handle)
		return held("readdir: ", h, err, func(r *Request) (wire.FSResult, error) { return h.page(op.Limit, op.Exact) })
	case *wire.OpFStat:
		h, err := c.acquire(op.Handle)
		return held("fstat: ", h, err, func(*Request) (wire.FSResult, error) { return h.stat(op.Exact) })
	case *wire.OpFSetStat:
		h, err := c.acquireFile(op.Handle)
		return held("fsetstat: ", h, err, silent(func() error { return h.setStat(&op.Attrs) }))
	case *wire.OpRealPath:
		return named("realpath: ", func(*Request) (wire.FSResult, error) { return realPath(op.Path) }, op.Path)
	case *wire.OpStat:
		return named("stat: ", func(*Request) (wire.FSResult, error) { return stat(op) }, op.Path)
	case *wire.OpSetStat:
		return named("setstat: ", silent(func() error { return setStat(op) }), op.Path)
	case *wire.OpList:
		return named("readdir: opendir: ", func(r *Request) (wire.FSResult, error) { return r.list(op.Path) }, op.Path)
	case *wire.OpReadLink:
		return named("readlink: ", func(*Request) (wire.FSResult, error) { return readLink(op.Path) }, op.Path)
	case *wire.OpSymlink:
		return named("symlink: ", silent(func() error { return symlink(op) }), op.Target, op.LinkPath)
	case *wire.OpMkdir:
		return named("mkdir: ", silent(func() error { return mkdir(op) }), op.Path)
	case *wire.OpRemove:
		return named("remove: ", silent(func() error { return remove(op) }), op.Path)
	case *wire.OpRemoveDir:
		return named("remove_dir: ", silent(func() error { return removeDir(op) }), op.Path)
	case *wire.OpCopy:
		return named("copy: ", silent(func() error { return copyFile(op) }), op.Src, op.Dst)
	case *wire.OpRename:
		return named("rename: ", silent(func() error { return rename(op) }), op.Src, op.Dst)
	case *wire.OpCall:
		return pathCall(op)
	case *wire.OpFileCall:
		return c.fileCall(op)
	case *wire.OpRead, *wire.OpWrite, *wire.OpPack, *wire.OpUnpack, *wire.OpWatch: // Streams: see Start.
	}
	return job{}, errors.New("unknown file operation")
}

// MovesContents reports whether an operation moves contents of files, and so may have an offer
// of raw records.
func MovesContents(op wire.FSOp) bool {
	_, read := op.(*wire.OpRead)
	_, write := op.(*wire.OpWrite)
	_, pack := op.(*wire.OpPack)
	_, unpack := op.(*wire.OpUnpack)
	_, watch := op.(*wire.OpWatch)
	return read || write || pack || unpack || watch
}
