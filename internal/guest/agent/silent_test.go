package agent_test

import (
	"encoding/binary"
	"runtime"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/agentd-go/agentd/internal/contract"
	"github.com/agentd-go/agentd/internal/nstest"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

// The operations of fuse(4) that a silent server answers (include/uapi/linux/fuse.h),
// those that it knows and does not answer, and those that have no answer.
const (
	fuseLookup = 1
	fuseForget = 2
	fuseStat   = 3
	fuseOpen   = 14
	fuseRead   = 15
	fuseFlush  = 25
	fuseInit   = 26
	fusePoll   = 40
)

// A silent server has one file under any name, which can be opened; it answers
// neither reads nor closes, nor whether there is something to wait for.
type silent struct {
	server       int
	reads, flush atomic.Int64
}

// silentMount makes a small root in which /mnt is such a server's.
func silentMount(t *testing.T) *silent {
	t.Helper()
	server, err := syscall.Open("/dev/fuse", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		t.Skipf("needs a file system of its own: %v", err)
	}
	nstest.Root(t)
	s := &silent{server: server}
	done := make(chan struct{})
	options := "fd=" + strconv.Itoa(server) + ",rootmode=40000,user_id=0,group_id=0"
	if err := syscall.Mount("silent", "/mnt", "fuse", 0, options); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(done)
		s.serve()
	}()
	t.Cleanup(func() {
		_ = syscall.Unmount("/mnt", syscall.MNT_FORCE|syscall.MNT_DETACH) // Ends the wait for requests.
		<-done
		_ = syscall.Close(server)
	})
	return s
}

func (s *silent) serve() {
	b := make([]byte, 1<<20)
	for {
		n, err := syscall.Read(s.server, b)
		if err != nil {
			return
		}
		const head = 40 // struct fuse_in_header.
		if n < head {
			continue
		}
		op, unique, node := binary.NativeEndian.Uint32(b[4:]), binary.NativeEndian.Uint64(b[8:]), binary.NativeEndian.Uint64(b[16:])
		s.answer(op, unique, node)
	}
}

func (s *silent) answer(op uint32, unique, node uint64) {
	le := binary.NativeEndian
	var body []byte
	var code int32
	switch op {
	case fuseInit:
		body = le.AppendUint32(le.AppendUint32(nil, 7), 31) // The version, and 56 bytes that may be 0,
		body = append(body, make([]byte, 56)...)
		le.PutUint32(body[20:], 4096) // but for the longest write.
	case fuseLookup:
		body = le.AppendUint64(nil, 2) // The node, then 32 bytes of how long that holds.
		body = append(append(body, make([]byte, 32)...), attributes(2)...)
	case fuseStat:
		body = append(make([]byte, 16), attributes(node)...)
	case fuseOpen:
		const direct = 1 // Past the cache: each read is asked for.
		body = le.AppendUint64(le.AppendUint64(nil, 0), direct)
	case fuseRead:
		s.reads.Add(1)
		return
	case fuseFlush:
		s.flush.Add(1)
		return
	case fuseForget, fusePoll:
		return
	default:
		code = -int32(syscall.ENOSYS)
	}
	out := le.AppendUint32(nil, uint32(16+len(body)))
	out = le.AppendUint64(le.AppendUint32(out, uint32(code)), unique)
	_, _ = syscall.Write(s.server, append(out, body...)) // Whoever asked may have gone.
}

// attributes are those of the root, or of the file (struct fuse_attr).
func attributes(node uint64) []byte {
	le := binary.NativeEndian
	mode := uint32(syscall.S_IFREG | 0o644)
	if node == 1 {
		mode = syscall.S_IFDIR | 0o755
	}
	b := make([]byte, 88)
	le.PutUint64(b, node)
	le.PutUint64(b[8:], 1<<20)
	le.PutUint32(b[60:], mode)
	le.PutUint32(b[64:], 1)
	return b
}

// Reads and closes that hang keep to what a client may have in the kernel, and hold
// up nothing of others.
func TestSilentFiles(t *testing.T) {
	nstest.Run(t, func() {
		s := silentMount(t)
		h := newHost(t, config{})
		const perClient, many, other = 8, 40, 0x02000000
		handle := h.openFile("/mnt/f", wire.OpenOptions{Read: true})
		for id := range uint32(many) {
			h.send(id+1, &wire.FSRequest{Op: &wire.OpRead{Handle: handle}})
		}
		eventually(t, "as many reads as may", func() bool { return s.reads.Load() >= perClient })
		runtime.GC()
		work(h, other)
		if n := s.reads.Load(); n > perClient {
			t.Errorf("%d reads of one client hang at once", n)
		}
	})
}

// TestSilentCloses is the same for closes, of a client that is there and of one
// that has gone.
func TestSilentCloses(t *testing.T) {
	nstest.Run(t, func() {
		s := silentMount(t)
		h := newHost(t, config{})
		const closes, other = 6, 0x02000000
		var handles []uint64
		for range closes {
			handles = append(handles, h.openFile("/mnt/f", wire.OpenOptions{Read: true}))
		}
		for i, handle := range handles {
			h.send(uint32(i)+1, &wire.FSRequest{Op: &wire.OpCloseHandle{Handle: handle}})
		}
		eventually(t, "a close that hangs", func() bool { return s.flush.Load() > 0 })
		work(h, other)
		// What the client that goes has left does not wait for what hangs.
		before := descriptors(t)
		h.openFile("/mnt/f", wire.OpenOptions{Read: true})
		for range 100 {
			h.openFile("/tmp", wire.OpenOptions{Read: true})
		}
		start, end := frame.SlotRange(0)
		h.send(0, &wire.ClientDisconnected{IDStart: start, IDEndExclusive: end})
		eventually(t, "all other files close", func() bool { return descriptors(t) <= before+1 })
		work(h, other)
	})
}

// work is what a client does meanwhile.
func work(h *host, id uint32) {
	h.t.Helper()
	handle := h.openOn(id, &wire.OpOpenFile{Path: "/tmp/f", Options: wire.OpenOptions{Write: true, Create: true}})
	h.send(id, &wire.FSRequest{Op: &wire.OpWrite{Handle: handle}})
	h.send(id, &wire.FSData{Data: []byte{}})
	for _, op := range []wire.FSOp{nil, &wire.OpCloseHandle{Handle: handle}} {
		if op != nil {
			h.send(id, &wire.FSRequest{Op: op})
		}
		if _, r := h.response(id); !r.OK {
			h.t.Errorf("another client: %s", contract.Outcome(r))
		}
	}
}
