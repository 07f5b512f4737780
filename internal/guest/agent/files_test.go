package agent_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

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
	return string(data) + outcome(r)
}

func outcome(r *wire.FSResponse) string {
	if !r.OK {
		return *r.Error
	}
	switch d := r.Data.(type) {
	case *wire.ResultPath:
		return d.Path
	case *wire.ResultHandle:
		return "handle"
	case *wire.ResultStat:
		return brief(&d.Entry)
	case *wire.ResultList:
		var all []string
		for _, e := range d.Entries {
			all = append(all, e.Path)
		}
		return fmt.Sprint(all)
	}
	return "ok"
}

func brief(e *wire.FSEntry) string {
	return fmt.Sprintf("%s %s %d %o %d:%d", e.Path, e.Kind, e.Size, e.Mode, e.UID, e.GID)
}

// openOn is the number of an opened file or directory.
func (h *host) openOn(id uint32, op wire.FSOp) uint64 {
	h.t.Helper()
	h.send(id, &wire.FSRequest{Op: op})
	_, r := h.response(id)
	d, ok := r.Data.(*wire.ResultHandle)
	if !ok {
		h.t.Fatalf("%+v: %s", op, outcome(r))
	}
	return d.Handle
}

func (h *host) openFile(path string, o wire.OpenOptions) uint64 {
	h.t.Helper()
	return h.openOn(89, &wire.OpOpenFile{Path: path, Options: o})
}

// Each operation on paths, in the order in which a tree grows and goes.
func TestFileOperations(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		h := newHost(t, config{})
		h.say("mkdir /t; printf hello > /t/f; chmod 640 /t/f; ln -s f /t/l; ln -s nowhere /t/dangling; ln -s loop /t/loop; mkfifo /t/p; mkdir /t/full; echo > /t/full/x; ln /t/f /t/hard")
		attrs := func(a wire.FSAttrs, path string, follow bool) wire.FSOp {
			return &wire.OpSetStat{Path: path, FollowSymlink: follow, Attrs: a}
		}
		for _, tt := range []struct {
			op   wire.FSOp
			want string
		}{
			{&wire.OpRealPath{Path: "/t/l"}, "/t/f"},
			{&wire.OpRealPath{Path: "/t/../t/./f"}, "/t/f"},
			{&wire.OpRealPath{Path: "t/f"}, "/t/f"},
			{&wire.OpRealPath{Path: "/t/dangling"}, "/t/dangling"},
			{&wire.OpRealPath{Path: "/t/new"}, "/t/new"},
			{&wire.OpRealPath{Path: "new"}, "/new"},
			{&wire.OpRealPath{Path: "/new"}, "/new"},
			{&wire.OpRealPath{Path: "/"}, "/"},
			{&wire.OpRealPath{Path: ""}, "realpath: No such file or directory (os error 2)"},
			{&wire.OpRealPath{Path: "/no/new"}, "realpath: No such file or directory (os error 2)"},
			{&wire.OpRealPath{Path: "/no/.."}, "realpath: No such file or directory (os error 2)"},
			{&wire.OpRealPath{Path: "/t/loop"}, "realpath: Symbolic link loop (os error 40)"},
			{&wire.OpRealPath{Path: "/t/f/x"}, "realpath: Not a directory (os error 20)"},
			{&wire.OpStat{Path: "/t/f"}, "/t/f file 5 100640 0:0"},
			{&wire.OpStat{Path: "t/l"}, "t/l symlink 1 120777 0:0"},
			{&wire.OpStat{Path: "/t/l", FollowSymlink: true}, "/t/l file 5 100640 0:0"},
			{&wire.OpStat{Path: "/t/p"}, "/t/p other 0 10644 0:0"},
			{&wire.OpStat{Path: "/no"}, "stat: No such file or directory (os error 2)"},
			{&wire.OpStat{Path: "/" + strings.Repeat("n", 256)}, "stat: Filename too long (os error 36)"},
			{&wire.OpStat{Path: strings.Repeat("/n", 1<<20)}, "stat: Filename too long (os error 36)"},
			{&wire.OpMkdir{Path: "/t\x00"}, "mkdir: file name contained an unexpected NUL byte"},
			{&wire.OpList{Path: "/t\x00"}, "readdir: opendir: file name contained an unexpected NUL byte"},
			{&wire.OpStat{Path: "/t\x00"}, "stat: file name contained an unexpected NUL byte"},
			{&wire.OpList{Path: "/t/full/"}, "[/t/full/x]"},
			{&wire.OpList{Path: "/no"}, "readdir: opendir: No such file or directory (os error 2)"},
			{&wire.OpList{Path: "/t/f"}, "readdir: opendir: Not a directory (os error 20)"},
			{&wire.OpReadLink{Path: "/t/l"}, "f"},
			{&wire.OpReadLink{Path: "/t/f"}, "readlink: Invalid argument (os error 22)"},
			{&wire.OpSymlink{Target: "x", LinkPath: "/t/new-link"}, "ok"},
			{&wire.OpSymlink{Target: "x", LinkPath: "/t/new-link"}, "symlink: File exists (os error 17)"},
			{&wire.OpMkdir{Path: "/t/a/b/c", Mode: new(uint32(0o1777))}, "ok"},
			{&wire.OpStat{Path: "/t/a/b/c"}, "/t/a/b/c dir 40 41777 0:0"},
			{&wire.OpStat{Path: "/t/a/b"}, "/t/a/b dir 60 40755 0:0"},
			{&wire.OpMkdir{Path: "/t/a/b/c/", Mode: new(uint32(0o700))}, "ok"},
			{&wire.OpMkdir{Path: "t/rel//x"}, "ok"},
			{&wire.OpMkdir{Path: "/t/f"}, "mkdir: File exists (os error 17)"},
			{&wire.OpMkdir{Path: "/t/f/x"}, "mkdir: Not a directory (os error 20)"},
			{&wire.OpMkdir{Path: "/proc/x"}, "mkdir: No such file or directory (os error 2)"},
			{&wire.OpMkdir{Path: "/proc/self/fd", Mode: new(uint32(0o700))}, "chmod: Operation not permitted (os error 1)"},
			{&wire.OpRemove{Path: "/t/a"}, "remove: Is a directory (os error 21)"},
			{&wire.OpRemove{Path: "/t/new-link"}, "ok"},
			{&wire.OpRemoveDir{Path: "/t/full"}, "remove_dir: Directory not empty (os error 39)"},
			{&wire.OpRemoveDir{Path: "/t/f", Recursive: true}, "remove_dir: Not a directory (os error 20)"},
			{&wire.OpRemoveDir{Path: "/t/no", Recursive: true}, "remove_dir: No such file or directory (os error 2)"},
			{&wire.OpSymlink{Target: "full", LinkPath: "/t/to-full"}, "ok"},
			{&wire.OpRemoveDir{Path: "/t/to-full", Recursive: true}, "ok"},
			{&wire.OpStat{Path: "/t/full/x"}, "/t/full/x file 1 100644 0:0"},
			{&wire.OpRemoveDir{Path: "/t/a", Recursive: true}, "ok"},
			{&wire.OpCopy{Src: "/t/l", Dst: "/t/copy"}, "ok"},
			{&wire.OpStat{Path: "/t/copy"}, "/t/copy file 5 100640 0:0"},
			{&wire.OpCopy{Src: "/t/f", Dst: "/t/hard"}, "ok"},
			{&wire.OpStat{Path: "/t/hard"}, "/t/hard file 5 100640 0:0"},
			{&wire.OpCopy{Src: "/t/full", Dst: "/t/copy"}, "copy: the source path is neither a regular file nor a symlink to a regular file"},
			{&wire.OpCopy{Src: "/t/p", Dst: "/t/copy"}, "copy: the source path is neither a regular file nor a symlink to a regular file"},
			{&wire.OpCopy{Src: "/t/f", Dst: "/t/full"}, "copy: Is a directory (os error 21)"},
			{&wire.OpRename{Src: "/t/copy", Dst: "/t/moved"}, "ok"},
			{&wire.OpRename{Src: "/t/copy", Dst: "/t/moved"}, "rename: No such file or directory (os error 2)"},
			{attrs(wire.FSAttrs{}, "/no", true), "ok"},
			{attrs(wire.FSAttrs{Size: new(uint64(3)), Mode: new(uint32(0o104755)), UID: new(uint32(0))}, "/t/moved", true), "ok"},
			{&wire.OpStat{Path: "/t/moved"}, "/t/moved file 3 100755 0:0"},
			{attrs(wire.FSAttrs{Size: new(uint64(1))}, "/no", true), "setstat: open for truncate: No such file or directory (os error 2)"},
			{attrs(wire.FSAttrs{Size: new(uint64(1 << 63))}, "/t/moved", true), "setstat: set_len: Invalid argument (os error 22)"},
			{attrs(wire.FSAttrs{Size: new(uint64(1))}, "/t/p", true), "setstat: open for truncate: No such device or address (os error 6)"},
			{attrs(wire.FSAttrs{Mode: new(uint32(0))}, "/no", true), "setstat: chmod: No such file or directory (os error 2)"},
			{attrs(wire.FSAttrs{Mode: new(uint32(0))}, "/no", false), "setstat: lstat before chmod: No such file or directory (os error 2)"},
			{attrs(wire.FSAttrs{Mode: new(uint32(0))}, "/t/l", false), "setstat: chmod on symlink without following is not supported"},
			{attrs(wire.FSAttrs{GID: new(uint32(0))}, "/no", true), "setstat: chown: No such file or directory (os error 2)"},
			{attrs(wire.FSAttrs{Mtime: new(int64(0))}, "/no", true), "setstat: stat before utimensat: No such file or directory (os error 2)"},
			{attrs(wire.FSAttrs{Atime: new(int64(0)), Mtime: new(int64(0))}, "/no", true), "setstat: utimensat: No such file or directory (os error 2)"},
			{attrs(wire.FSAttrs{Atime: new(int64(-5)), Mtime: new(int64(1e9))}, "/t/l", false), "ok"},
		} {
			if got := h.file(tt.op); got != tt.want {
				t.Errorf("%T%+v: got %q, want %q", tt.op, tt.op, got, tt.want)
			}
		}
		if got := h.say("cat /t/hard; stat -c '%X %Y' /t/l"); got != "hello-5 1000000000\n" {
			t.Errorf("afterwards: %q", got)
		}
	})
}

// Names that are no text are listed and removed.
func TestFileNamesAreBytes(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		h := newHost(t, config{})
		if err := os.MkdirAll("/t/d", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile("/t/d/a\xffb", []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("to\xfe", "/t/l"); err != nil {
			t.Fatal(err)
		}
		for _, tt := range []struct {
			op   wire.FSOp
			want string
		}{
			{&wire.OpList{Path: "/t/d"}, "[/t/d/a\ufffdb]"},
			{&wire.OpReadLink{Path: "/t/l"}, "to\ufffd"},
			{&wire.OpRemoveDir{Path: "/t", Recursive: true}, "ok"},
			{&wire.OpStat{Path: "/t"}, "stat: No such file or directory (os error 2)"},
		} {
			if got := h.file(tt.op); got != tt.want {
				t.Errorf("%T: got %q, want %q", tt.op, got, tt.want)
			}
		}
	})
}

func TestFileHandles(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		h := newHost(t, config{})
		h.say("mkdir /t; printf 0123456789 > /t/f; mkfifo /t/p")
		both := h.openFile("/t/f", wire.OpenOptions{Read: true, Write: true})
		reads := h.openFile("/t/f", wire.OpenOptions{Read: true})
		appends := h.openFile("/t/f", wire.OpenOptions{Append: true, Create: true})
		dir := h.openOn(89, &wire.OpOpenDir{Path: "/t"})
		dirFile := h.openFile("/t", wire.OpenOptions{Read: true})
		fifo := h.openFile("/t/p", wire.OpenOptions{Read: true})
		open := func(o wire.OpenOptions) wire.FSOp { return &wire.OpOpenFile{Path: "/t/new", Options: o} }
		const lost = 12345
		named := func(format string, n uint64) string { return fmt.Sprintf(format, n) }
		for _, tt := range []struct {
			op   wire.FSOp
			want string
		}{
			{open(wire.OpenOptions{}), "open: must specify at least one of read, write, or append access"},
			{open(wire.OpenOptions{Read: true, Create: true}), "open: creating or truncating a file requires write or append access"},
			{open(wire.OpenOptions{Read: true, CreateNew: true}), "open: creating or truncating a file requires write or append access"},
			{open(wire.OpenOptions{Append: true, Truncate: true}), "open: creating or truncating a file requires write or append access"},
			{open(wire.OpenOptions{Read: true}), "open: No such file or directory (os error 2)"},
			{open(wire.OpenOptions{Write: true, CreateNew: true, Mode: new(uint32(0o666))}), "handle"},
			{open(wire.OpenOptions{Write: true, CreateNew: true}), "open: File exists (os error 17)"},
			{&wire.OpStat{Path: "/t/new"}, "/t/new file 0 100644 0:0"},
			{&wire.OpOpenFile{Path: "/t", Options: wire.OpenOptions{Write: true}}, "open: Is a directory (os error 21)"},
			{&wire.OpOpenFile{Path: "/t/p", Options: wire.OpenOptions{Write: true}}, "handle"}, // It has a reader.
			{&wire.OpOpenDir{Path: "/t/f"}, "opendir: Not a directory (os error 20)"},
			{&wire.OpRead{Handle: both}, "0123456789ok"},
			{&wire.OpRead{Handle: both, Offset: 3, Len: new(uint64(4))}, "3456ok"},
			{&wire.OpRead{Handle: both, Len: new(uint64(0))}, "ok"},
			{&wire.OpRead{Handle: both, Offset: 11}, "ok"},
			{&wire.OpRead{Handle: both, Offset: 1 << 63}, "seek: Invalid argument (os error 22)"},
			{&wire.OpRead{Handle: appends}, named("read: handle %d is not open for reading", appends)},
			{&wire.OpRead{Handle: dir}, named("read: handle %d is a directory", dir)},
			{&wire.OpRead{Handle: dirFile}, "read: Is a directory (os error 21)"},
			{&wire.OpRead{Handle: fifo}, "seek: Invalid seek (os error 29)"},
			{&wire.OpRead{Handle: lost}, "read: invalid handle: 12345"},
			{&wire.OpWrite{Handle: reads}, named("write: handle %d is not open for writing", reads)},
			{&wire.OpWrite{Handle: lost}, "write: invalid handle: 12345"},
			{&wire.OpWrite{Handle: both, Offset: 1 << 63}, "seek: Invalid argument (os error 22)"},
			{&wire.OpReadDir{Handle: both}, named("readdir: handle %d is a file", both)},
			{&wire.OpReadDir{Handle: lost}, "readdir: invalid handle: 12345"},
			{&wire.OpFStat{Handle: both}, "/t/f file 10 100644 0:0"},
			{&wire.OpFStat{Handle: lost}, "fstat: invalid handle: 12345"},
			{&wire.OpFSetStat{Handle: dir}, named("fsetstat: handle %d is a directory", dir)},
			{&wire.OpFSetStat{Handle: reads, Attrs: wire.FSAttrs{Mode: new(uint32(0o600)), Mtime: new(int64(7))}}, "ok"},
			{&wire.OpFSetStat{Handle: reads, Attrs: wire.FSAttrs{Size: new(uint64(2))}}, "fsetstat: set_len: Invalid argument (os error 22)"},
			{&wire.OpFSetStat{Handle: both, Attrs: wire.FSAttrs{Size: new(uint64(2)), UID: new(uint32(0))}}, "ok"},
			{&wire.OpFStat{Handle: reads}, "/t/f file 2 100600 0:0"},
			{&wire.OpCloseHandle{Handle: both}, "ok"},
			{&wire.OpCloseHandle{Handle: both}, named("close: invalid handle: %d", both)},
			{&wire.OpRead{Handle: both}, named("read: invalid handle: %d", both)},
		} {
			if got := h.file(tt.op); got != tt.want {
				t.Errorf("%T%+v: got %q, want %q", tt.op, tt.op, got, tt.want)
			}
		}
		const other = 0x02000000
		h.send(other, &wire.FSRequest{Op: &wire.OpFStat{Handle: reads}})
		_, r := h.response(other)
		if want := fmt.Sprintf("fstat: handle %d is owned by a different relay client", reads); outcome(r) != want {
			t.Errorf("another client's handle: %q", outcome(r))
		}
	})
}

// putFile writes data by one Write and returns its outcome.
func (h *host) putFile(id uint32, op *wire.OpWrite, data []byte, piece int) string {
	h.t.Helper()
	h.send(id, &wire.FSRequest{Op: op})
	for b := data; len(b) > 0; b = b[min(piece, len(b)):] {
		h.send(id, &wire.FSData{Data: b[:min(piece, len(b))]})
	}
	h.send(id, &wire.FSData{Data: []byte{}})
	_, r := h.response(id)
	return outcome(r)
}

func TestFileStreams(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		h := newHost(t, config{})
		rw := wire.OpenOptions{Read: true, Write: true, Create: true}
		big := bytes.Repeat([]byte("0123456789abcdef"), 2<<20)
		for i := range big {
			big[i] ^= byte(i >> 9)
		}
		f := h.openFile("/tmp/big", rw)
		if got := h.putFile(3, &wire.OpWrite{Handle: f, Len: new(uint64(len(big)))}, big, 3<<20); got != "ok" {
			t.Fatalf("write: %s", got)
		}
		h.send(4, &wire.FSRequest{Op: &wire.OpRead{Handle: f}})
		data, r := h.response(4)
		if sha256.Sum256(data) != sha256.Sum256(big) || !r.OK {
			t.Errorf("read %d bytes of %d back: %s", len(data), len(big), outcome(r))
		}
		small := h.openFile("/tmp/small", rw)
		appends := h.openFile("/tmp/small", wire.OpenOptions{Append: true})
		for _, tt := range []struct {
			op         wire.OpWrite
			data, want string
			file       string
		}{
			{wire.OpWrite{Handle: small, Offset: 2}, "cd", "ok", "\x00\x00cd"},
			{wire.OpWrite{Handle: small}, "ab", "ok", "abcd"},
			{wire.OpWrite{Handle: appends, Offset: 1 << 63}, "ef", "ok", "abcdef"},
			{wire.OpWrite{Handle: small, Len: new(uint64(9))}, "xy", "write length mismatch: expected 9, wrote 2", "xycdef"},
			{wire.OpWrite{Handle: small}, "", "ok", "xycdef"},
		} {
			if got := h.putFile(3, &tt.op, []byte(tt.data), 1); got != tt.want {
				t.Errorf("%+v: %s, want %s", tt.op, got, tt.want)
			}
			if b, err := os.ReadFile("/tmp/small"); err != nil || string(b) != tt.file {
				t.Errorf("%+v: the file has %q, want %q (%v)", tt.op, b, tt.file, err)
			}
		}
	})
}

// Data that comes late is answered, and what it was sent for has one answer.
func TestLateFileData(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		h := newHost(t, config{})
		full := h.openFile("/dev/full", wire.OpenOptions{Append: true})
		h.send(5, &wire.FSRequest{Op: &wire.OpWrite{Handle: full}})
		h.send(5, &wire.FSData{Data: []byte("x")})
		if _, r := h.response(5); outcome(r) != "write: No space left on device (os error 28)" {
			t.Errorf("got %s", outcome(r))
		}
		eventually(t, "an answer to late data", func() bool {
			h.send(5, &wire.FSData{Data: []byte("x")})
			h.ping()
			return h.kept(5, 6) > 0
		})
		if _, r := h.response(5); outcome(r) != "unknown write session: 5" {
			t.Errorf("got %s", outcome(r))
		}
		h.send(6, &wire.FSData{Data: []byte{}})
		if _, r := h.response(6); outcome(r) != "unknown write session: 6" {
			t.Errorf("got %s", outcome(r))
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
				t.Fatal(outcome(r))
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
				t.Errorf("listing %d: %.200s", id, outcome(r))
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
				t.Errorf("read %d: %d bytes of %d: %s", id, len(data), len(content), outcome(r))
			}
		}
	})
}
