package agent_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/agentd-go/agentd/internal/contract"
	"github.com/agentd-go/agentd/internal/nstest"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

// response is the end of a file operation, behind the data that it sent.
func (h *host) response(id uint32) (data []byte, r *wire.FSResponse) {
	h.t.Helper()
	for {
		switch m := h.next(id).Message.(type) {
		case *wire.FSData:
			if len(m.Data) == 0 {
				h.t.Error("an empty piece")
			}
			data = append(data, m.Data...)
		case *wire.FSResponse:
			return data, m
		default:
			h.t.Fatalf("id %d: %T among a file's frames", id, m)
		}
	}
}

// file does a file operation and says how it ended: the error, or the result in
// short.
func (h *host) file(op wire.FSOp) string {
	h.t.Helper()
	const id = 88
	h.send(id, &wire.FSRequest{Op: op})
	data, r := h.response(id)
	return string(data) + contract.Outcome(r)
}

// openOn is the number of an opened file or directory.
func (h *host) openOn(id uint32, op wire.FSOp) uint64 {
	h.t.Helper()
	h.send(id, &wire.FSRequest{Op: op})
	_, r := h.response(id)
	d, ok := r.Data.(*wire.ResultHandle)
	if !ok {
		h.t.Fatalf("%+v: %s", op, contract.Outcome(r))
	}
	return d.Handle
}

func (h *host) openFile(path string, o wire.OpenOptions) uint64 {
	h.t.Helper()
	return h.openOn(89, &wire.OpOpenFile{Path: path, Options: o})
}

// Data that comes late is answered, and what it was sent for has one answer.
func TestLateFileData(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		h := newHost(t, config{})
		full := h.openFile("/dev/full", wire.OpenOptions{Append: true})
		h.send(5, &wire.FSRequest{Op: &wire.OpWrite{Handle: full}})
		h.send(5, &wire.FSData{Data: []byte("x")})
		if _, r := h.response(5); contract.Outcome(r) != "write: No space left on device (os error 28)" {
			t.Errorf("got %s", contract.Outcome(r))
		}
		eventually(t, "an answer to late data", func() bool {
			h.send(5, &wire.FSData{Data: []byte("x")})
			h.ping()
			return h.kept(5, 6) > 0
		})
		if _, r := h.response(5); contract.Outcome(r) != "unknown write session: 5" {
			t.Errorf("got %s", contract.Outcome(r))
		}
		h.send(6, &wire.FSData{Data: []byte{}})
		if _, r := h.response(6); contract.Outcome(r) != "unknown write session: 6" {
			t.Errorf("got %s", contract.Outcome(r))
		}
	})
}

// A directory of any size can be read in pages, and each request has an answer.
func TestLargeDirectory(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		h := newHost(t, config{})
		if err := os.Mkdir("/d", 0o755); err != nil {
			t.Fatal(err)
		}
		const files = 16000
		long := strings.Repeat("n", 240)
		for i := range files {
			if err := os.WriteFile(filepath.Join("/d", long+strconv.Itoa(i)), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		const want = "readdir: the directory does not fit one answer; ReadDir gives it in pages"
		if got := h.file(&wire.OpList{Path: "/d"}); got != want {
			t.Errorf("got %.200q", got)
		}
		d := h.openOn(89, &wire.OpOpenDir{Path: "/d"})
		seen := map[string]bool{}
		for page := 1; page > 0; {
			h.send(90, &wire.FSRequest{Op: &wire.OpReadDir{Handle: d, Limit: new(uint32(1 << 31))}})
			_, r := h.response(90)
			list, ok := r.Data.(*wire.ResultList)
			if !ok {
				t.Fatal(contract.Outcome(r))
			}
			for _, e := range list.Entries {
				seen[e.Path] = true
			}
			page = len(list.Entries)
		}
		if len(seen) != files {
			t.Errorf("%d names, want %d", len(seen), files)
		}
		if got := h.file(&wire.OpRemoveDir{Path: "/d", Recursive: true}); got != "ok" {
			t.Error(got)
		}
	})
}

// A listing as large as a frame allows arrives, and several at once do too.
func TestListingsOfOneFrame(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		h := newHost(t, config{})
		if err := os.Mkdir("/d", 0o755); err != nil {
			t.Fatal(err)
		}
		const files, requests = 20000, 6
		for i := range files {
			if err := os.WriteFile("/d/"+strconv.Itoa(i), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		for id := range uint32(requests) {
			h.send(id+1, &wire.FSRequest{Op: &wire.OpList{Path: "/d"}})
		}
		for id := range uint32(requests) {
			_, r := h.response(id + 1)
			if list, ok := r.Data.(*wire.ResultList); !ok || len(list.Entries) != files {
				t.Errorf("listing %d: %.200s", id, contract.Outcome(r))
			}
		}
	})
}

// descriptors is how many this process has open.
func descriptors(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// A client has 1,024 handles; commands start nevertheless; and all of them close
// when it goes, with what waits in them.
func TestHandlesAreLimitedAndClosed(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		requireFiles(t, 4096)
		h := newHost(t, config{})
		h.say("mkfifo /tmp/p; printf x > /tmp/f")
		before := descriptors(t)
		const most = 1024
		fifo := h.openFile("/tmp/p", wire.OpenOptions{Read: true, Append: true})
		for range most - 1 {
			h.openFile("/tmp/f", wire.OpenOptions{Read: true})
		}
		const want = "open: too many open filesystem handles for relay client: 1024"
		if got := h.file(&wire.OpOpenFile{Path: "/tmp/f", Options: wire.OpenOptions{Read: true}}); got != want {
			t.Errorf("one more: %s", got)
		}
		if got := h.say("echo still"); got != "still\n" {
			t.Errorf("a command beside them: %q", got)
		}
		h.openOn(0x02000000, &wire.OpOpenFile{Path: "/tmp/f", Options: wire.OpenOptions{Read: true}})
		// A write that fills the fifo and waits, whose handle is closed meanwhile.
		h.send(7, &wire.FSRequest{Op: &wire.OpWrite{Handle: fifo}})
		h.send(7, &wire.FSData{Data: make([]byte, 1<<20)})
		if got := h.file(&wire.OpCloseHandle{Handle: fifo}); got != "ok" {
			t.Errorf("close under a write: %s", got)
		}
		start, end := frame.SlotRange(0)
		h.send(0, &wire.ClientDisconnected{IDStart: start, IDEndExclusive: end})
		h.pingOther(0x02000001)
		begin := time.Now()
		eventually(t, "the descriptors are back", func() bool { return descriptors(t) <= before+1 })
		if took := time.Since(begin); took > prompt {
			t.Errorf("took %v", took)
		}
		if n := h.kept(start, end); n != 0 {
			t.Errorf("%d frames for a client that has gone", n)
		}
		h.openFile("/tmp/f", wire.OpenOptions{Read: true}) // The next one in the slot begins anew.
	})
}

// requireFiles skips where fewer descriptors are allowed than the test opens.
func requireFiles(t *testing.T, n uint64) {
	t.Helper()
	var lim syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil {
		t.Fatal(err)
	}
	if lim.Cur < n {
		t.Skipf("needs %d descriptors, has %d", n, lim.Cur)
	}
}

// What waits for the other side of a fifo, or for a host that does not read,
// delays nobody.
func TestFilesDelayNobody(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		h := newHost(t, config{})
		h.say("mkfifo /tmp/p")
		if got := h.file(&wire.OpOpenFile{Path: "/tmp/p", Options: wire.OpenOptions{Write: true}}); got != "open: No such device or address (os error 6)" {
			t.Errorf("open of a fifo that nobody reads: %s", got)
		}
		reads := h.openFile("/tmp/p", wire.OpenOptions{Read: true})
		writes := h.openFile("/tmp/p", wire.OpenOptions{Append: true})
		for id := range uint32(100) {
			h.send(id+500, &wire.FSRequest{Op: &wire.OpWrite{Handle: writes}})
			h.send(id+500, &wire.FSData{Data: make([]byte, 128<<10)})
		}
		zero := h.openFile("/dev/zero", wire.OpenOptions{Read: true})
		before := heap()
		h.hold(true)
		for id := range uint32(100) {
			h.send(id+200, &wire.FSRequest{Op: &wire.OpRead{Handle: zero}})
		}
		h.hold(false)
		if took := h.ping(); took > prompt {
			t.Errorf("a ping took %v", took)
		}
		if got := h.file(&wire.OpFStat{Handle: reads}); got != "/tmp/p other 0 10644 0:0" {
			t.Errorf("got %s", got)
		}
		start, end := frame.SlotRange(0)
		h.send(0, &wire.ClientDisconnected{IDStart: start, IDEndExclusive: end})
		h.pingOther(0x02000777)
		h.drop(start, end)
		if grown := heap() - before; grown > bounded {
			t.Errorf("the heap grew by %d MiB", grown>>20)
		}
	})
}

// A host that does not read costs a bounded amount for each file that it asked
// for, and loses nothing.
func TestPausedHostOfFiles(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		h := newHost(t, config{})
		content := bytes.Repeat([]byte("0123456789abcdef"), 256<<10)
		if err := os.WriteFile("/tmp/f", content, 0o600); err != nil {
			t.Fatal(err)
		}
		f := h.openFile("/tmp/f", wire.OpenOptions{Read: true})
		before := heap()
		h.hold(true)
		const reads = 32 // 128 MiB together.
		for id := range uint32(reads) {
			h.send(id+1, &wire.FSRequest{Op: &wire.OpRead{Handle: f}})
		}
		last, quiet := int64(0), 0
		eventually(t, "all reads wait", func() bool {
			now := heap()
			if quiet++; now-last > 64<<10 || last-now > 64<<10 {
				quiet = 0
			}
			last = now
			return quiet > 20
		})
		if grown := heap() - before; grown > bounded/4 {
			t.Errorf("the heap grew by %d MiB", grown>>20)
		}
		h.hold(false)
		for id := range uint32(reads) {
			if data, r := h.response(id + 1); !r.OK || !bytes.Equal(data, content) {
				t.Errorf("read %d: %d bytes of %d: %s", id, len(data), len(content), contract.Outcome(r))
			}
		}
	})
}
