package client_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/wire"
)

// Frames of the protocol's test vectors, by their numbers there.
const (
	statFile   = "000000900000000201a3617604617470636f72652e66732e726573706f6e736561705870a3626f6bf5656572726f72f66464617461a16453746174a96470617468682f746d702f742f66646b696e646466696c656473697a6505646d6f64651981a0686d6f6469666965641a5e0d5da5637569641903e8636769641907d0656174696d651a5e0d5da5656d74696d651a5e0d5da5" // G13
	statNobody = "0000005f0000000701a3617604617470636f72652e66732e726573706f6e73656170583fa3626f6bf4656572726f72782c737461743a204e6f20737563682066696c65206f72206469726563746f727920286f73206572726f722032296464617461f6"                                                                                                   // G14
	fileOK     = "000000310000001c01a3617604617470636f72652e66732e726573706f6e7365617052a3626f6bf5656572726f72f66464617461f6"                                                                                                                                                                                               // G15
	pathF      = "000000390000001001a3617604617470636f72652e66732e726573706f6e736561705819a3626f6bf5656572726f72f66464617461a164506174686166"                                                                                                                                                                               // G16
	handle1    = "0000003a0000003801a3617604617470636f72652e66732e726573706f6e73656170581aa3626f6bf5656572726f72f66464617461a16648616e646c6501"                                                                                                                                                                             // G17
	listFIFO   = "0000008e0000004701a3617604617470636f72652e66732e726573706f6e73656170586ea3626f6bf5656572726f72f66464617461a1644c69737481a96470617468682f746d702f742f70646b696e64656f746865726473697a6500646d6f64651911a4686d6f6469666965641a6b049f2663756964006367696400656174696d651a6b049f26656d74696d651a6b049f26"     // G18
	listEnd    = "000000380000000d01a3617604617470636f72652e66732e726573706f6e736561705818a3626f6bf5656572726f72f66464617461a1644c69737480"                                                                                                                                                                                 // G19
	dataEll    = "000000250000004f00a361760461746c636f72652e66732e6461746161704aa1646461746143656c6c"                                                                                                                                                                                                                       // G20
)

// operation reads a request for one operation on files.
func (p *peer) operation(want wire.FSOp) uint32 {
	p.t.Helper()
	return p.expect(&wire.FSRequest{Op: want})
}

// refuse answers an operation with the guest's words.
func (p *peer) refuse(id uint32, words string) { p.send(id, &wire.FSResponse{Error: &words}) }

// succeed answers one that returns nothing.
func (p *peer) succeed(id uint32) { p.send(id, &wire.FSResponse{OK: true}) }

// opens plays the opening of a file by which it gets handle 1.
func (p *peer) opens(o wire.OpenOptions) {
	p.t.Helper()
	if o.Mode == nil {
		o.Mode = new(uint32(0))
	}
	id := p.operation(&wire.OpOpenFile{Path: "/f", Options: o})
	p.write(golden(p.t, id, handle1))
}

// closes plays the closing of handle 1.
func (p *peer) closes() {
	p.t.Helper()
	p.succeed(p.operation(&wire.OpCloseHandle{Handle: 1}))
}

func read(offset, size uint64) *wire.OpRead {
	return &wire.OpRead{Handle: 1, Offset: offset, Len: &size}
}

// open opens the file whose opening the peer plays.
func open(t *testing.T, c *client.Client, p *peer, flag int) *client.File {
	t.Helper()
	wait := background(func() {
		p.opens(wire.OpenOptions{
			Read: flag&os.O_WRONLY == 0, Write: flag&(os.O_WRONLY|os.O_RDWR) != 0, Append: flag&os.O_APPEND != 0,
		})
	})
	f, err := c.OpenFile(t.Context(), "/f", flag, 0)
	if err != nil {
		t.Fatal(err)
	}
	wait()
	return f
}

func TestRecordedFiles(t *testing.T) {
	script(t, 4, func(c *client.Client, p *peer) {
		t := p.t
		defer background(func() {
			p.write(golden(t, p.operation(&wire.OpStat{Path: "/tmp/t/f", FollowSymlink: true}), statFile))
			p.write(golden(t, p.operation(&wire.OpStat{Path: "/no"}), statNobody))
			p.write(golden(t, p.operation(&wire.OpSymlink{Target: "a", LinkPath: "b"}), fileOK))
			p.write(golden(t, p.operation(&wire.OpReadLink{Path: "l"}), pathF))
			p.write(golden(t, p.operation(&wire.OpOpenDir{Path: "/tmp/t"}), handle1))
			limit := uint32(512)
			p.write(golden(t, p.operation(&wire.OpReadDir{Handle: 1, Limit: &limit}), listFIFO))
			p.write(golden(t, p.operation(&wire.OpReadDir{Handle: 1, Limit: &limit}), listEnd))
			p.operation(&wire.OpCloseHandle{Handle: 1})
		})()
		i, err := c.Stat(t.Context(), "/tmp/t/f")
		if err != nil || i.Name() != "f" || i.Size() != 5 || i.Mode() != 0o640 || !i.ModTime().Equal(time.Unix(1577934245, 0)) {
			t.Errorf("Stat = %v, %v", i, err)
		}
		if e, ok := i.Sys().(*client.Stat); !ok || e.UID != 1000 || e.GID != 2000 || e.Atime.Unix() != 1577934245 {
			t.Errorf("Sys = %+v", i.Sys())
		}
		_, err = c.Lstat(t.Context(), "/no")
		if !errors.Is(err, fs.ErrNotExist) || err.Error() != "lstat /no: No such file or directory (os error 2)" {
			t.Errorf("Lstat = %v", err)
		}
		if err := c.Symlink(t.Context(), "a", "b"); err != nil {
			t.Error(err)
		}
		if s, err := c.ReadLink(t.Context(), "l"); s != "f" || err != nil {
			t.Errorf("ReadLink = %q, %v", s, err)
		}
		all, err := c.ReadDir(t.Context(), "/tmp/t")
		if err != nil || len(all) != 1 || all[0].Name() != "p" || all[0].Type() != fs.ModeNamedPipe {
			t.Errorf("ReadDir = %v, %v", all, err)
		}
	})
}

// The guest's words become the numbers and errors that they stand for, whichever
// agent says them.
func TestGuestErrors(t *testing.T) {
	for _, tt := range []struct {
		words string
		errno syscall.Errno
		is    error
		shown string
	}{
		{"stat: No such file or directory (os error 2)", syscall.ENOENT, fs.ErrNotExist, "No such file or directory (os error 2)"},
		{"setstat: chmod: Operation not permitted (os error 1)", syscall.EPERM, fs.ErrPermission, "chmod: Operation not permitted (os error 1)"},
		{"open: Permission denied (os error 13)", syscall.EACCES, fs.ErrPermission, "Permission denied (os error 13)"},
		{"mkdir: File exists (os error 17)", syscall.EEXIST, fs.ErrExist, "File exists (os error 17)"},
		{"remove_dir: Directory not empty (os error 39)", syscall.ENOTEMPTY, fs.ErrExist, "Directory not empty (os error 39)"},
		{"open: No file descriptors available (os error 24)", syscall.EMFILE, nil, "No file descriptors available (os error 24)"},
		{"open: too many open filesystem handles for relay client: 1024", syscall.EMFILE, nil, ""},
		{"read: handle 7 is not open for reading", syscall.EBADF, nil, ""},
		{"close: invalid handle: 7", syscall.EBADF, nil, "invalid handle: 7"},
		{"stat: file name contained an unexpected NUL byte", syscall.EINVAL, nil, ""},
		{"copy: the source path is neither a regular file nor a symlink to a regular file", syscall.EINVAL, nil, ""},
		{"write length mismatch: expected 5, wrote 4", 0, nil, "write length mismatch: expected 5, wrote 4"},
		{"nothing known (os error 99999)", 0, nil, "nothing known (os error 99999)"},
		{"readdir /x (os error 2): I/O error (os error 5)", syscall.EIO, nil, ""},
	} {
		script(t, 7, func(c *client.Client, p *peer) {
			t := p.t
			defer background(func() { p.refuse(p.operation(&wire.OpRealPath{Path: "/x"}), tt.words) })()
			_, err := c.RealPath(t.Context(), "/x")
			path, ok := errors.AsType[*fs.PathError](err)
			guest, ok2 := errors.AsType[*client.GuestError](err)
			errno, _ := errors.AsType[syscall.Errno](err)
			if !ok || !ok2 || path.Op != "realpath" || path.Path != "/x" || guest.Message != tt.words || errno != tt.errno {
				t.Errorf("%q is %v with errno %d", tt.words, err, errno)
			}
			if tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("%q is not %v", tt.words, tt.is)
			}
			if tt.shown != "" && guest.Error() != tt.shown {
				t.Errorf("%q is shown as %q", tt.words, guest.Error())
			}
		})
	}
}

// Reading in a row asks ahead, in growing pieces, and never for more than two; what
// nobody reads holds up nothing.
func TestReadAhead(t *testing.T) {
	script(t, 7, func(c *client.Client, p *peer) {
		t := p.t
		f := open(t, c, p, os.O_RDONLY)
		wait := background(func() {
			first := p.operation(read(0, 64<<10))
			p.write(golden(t, first, dataEll))
			second := p.operation(read(64<<10, 128<<10))
			p.send(second, &wire.FSData{Data: make([]byte, 128<<10)})
			p.succeed(second)
			p.send(p.expect(new(wire.Ping)), new(wire.Pong))
			p.send(first, &wire.FSData{Data: make([]byte, 64<<10-3)})
			p.succeed(first)
			third := p.operation(read(192<<10, 256<<10))
			p.send(third, &wire.FSData{Data: []byte("end")})
			p.succeed(third)
			p.succeed(p.operation(read(448<<10, 512<<10)))
			p.closes()
		})
		b := make([]byte, 2)
		for _, want := range []string{"el", "l"} {
			if n, err := f.Read(b); string(b[:n]) != want || err != nil {
				t.Errorf("Read = %q, %v; want %q", b[:n], err, want)
			}
		}
		if _, err := c.Ping(t.Context()); err != nil {
			t.Errorf("beside an unread file: %v", err)
		}
		all, err := io.ReadAll(struct{ io.Reader }{f})
		if len(all) != 192<<10 || !bytes.HasSuffix(all, []byte("\x00end")) || err != nil {
			t.Errorf("read %d bytes, %v", len(all), err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		wait()
	})
}

// A piece goes where its caller wants it; one that is given up touches nothing.
func TestReadAt(t *testing.T) {
	script(t, 7, func(c *client.Client, p *peer) {
		t := p.t
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		wait := background(func() {
			p.opens(wire.OpenOptions{Read: true})
			id := p.operation(read(7, 5))
			p.write(golden(t, id, dataEll))
			p.succeed(id)
			id = p.operation(read(7, 5))
			p.write(golden(t, id, dataEll))
			p.refuse(id, "read: I/O error (os error 5)")
			id = p.operation(read(7, 5))
			p.write(golden(t, id, dataEll))
			synctest.Wait()
			cancel()
			synctest.Wait()
			p.send(id, &wire.FSData{Data: []byte("zz")})
			p.succeed(id)
			p.closes()
		})
		f, err := c.Open(ctx, "/f")
		if err != nil {
			t.Fatal(err)
		}
		b := []byte("-----")
		if n, err := f.ReadAt(b, 7); n != 3 || err != io.EOF || string(b) != "ell--" { //nolint:errorlint // The contract is bare.
			t.Errorf("ReadAt = %d, %v, %q", n, err, b)
		}
		if n, err := f.ReadAt(b, 7); n != 3 || !errors.Is(err, syscall.EIO) {
			t.Errorf("ReadAt = %d, %v", n, err)
		}
		if _, err := f.ReadAt(b, 7); !errors.Is(err, context.Canceled) || strings.Contains(string(b), "z") {
			t.Errorf("ReadAt = %v, %q", err, b)
		}
		if _, err := f.Read(b); !errors.Is(err, context.Canceled) {
			t.Errorf("Read = %v", err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		wait()
	})
}

// Writing goes on without answers up to a bound, and says late what went wrong.
func TestWriteBehind(t *testing.T) {
	script(t, 7, func(c *client.Client, p *peer) {
		t := p.t
		f := open(t, c, p, os.O_WRONLY)
		wait := background(func() {
			id := p.operation(&wire.OpWrite{Handle: 1})
			p.expect(&wire.FSData{Data: []byte("one")})
			p.expect(&wire.FSData{Data: []byte("two")})
			p.expect(&wire.FSData{Data: []byte{}})
			p.succeed(id)
			id = p.operation(&wire.OpWrite{Handle: 1, Offset: 6})
			p.expect(&wire.FSData{Data: []byte("three")})
			p.refuse(id, "write: No space left on device (os error 28)")
			p.closes()
		})
		for _, s := range []string{"one", "two"} {
			if n, err := f.WriteString(s); n != 3 || err != nil {
				t.Errorf("Write = %d, %v", n, err)
			}
		}
		if err := f.Flush(); err != nil {
			t.Error(err)
		}
		if err := f.Sync(); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("Sync, for which the protocol has no word, = %v", err)
		}
		if _, err := f.WriteString("three"); err != nil {
			t.Error(err)
		}
		synctest.Wait() // The refusal has arrived, and no call has returned it yet.
		err := f.Close()
		if path, ok := errors.AsType[*fs.PathError](err); !ok || path.Op != "close" || !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("Close = %v", err)
		}
		if _, err := f.WriteString("x"); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("Write after Close = %v", err)
		}
		wait()
	})
}

// Two pieces at most are without an answer, one of a file that is appended to.
func TestWriteWindow(t *testing.T) {
	const piece, count = 8 * (128<<10 - wire.DataHead), 5
	for flag, allowed := range map[int]int{os.O_WRONLY: 2, os.O_WRONLY | os.O_APPEND: 1} {
		script(t, 7, func(c *client.Client, p *peer) {
			t := p.t
			f := open(t, c, p, flag)
			wait := background(func() {
				for done := 0; done < count; {
					pieces := p.pieces(min(allowed, count-done))
					synctest.Wait() // Nothing more comes without an answer.
					for id, size := range pieces {
						if size != piece {
							t.Errorf("a piece of %d bytes", size)
						}
						p.succeed(id)
						done++
					}
				}
				p.closes()
			})
			if n, err := f.Write(make([]byte, count*piece)); n != count*piece || err != nil {
				t.Errorf("Write = %d, %v", n, err)
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
			wait()
		})
	}
}

// pieces reads n pieces of a file to their ends, which may come mixed, and returns
// their sizes.
func (p *peer) pieces(n int) map[uint32]int {
	sizes := map[uint32]int{}
	for ended := 0; ended < n; {
		f, ok := p.next()
		if !ok {
			break
		}
		switch m := p.message(f).(type) {
		case *wire.FSRequest:
			if sizes[f.ID] = 0; len(sizes) > n {
				p.t.Errorf("%d pieces without an answer, want %d", len(sizes), n)
			}
		case *wire.FSData:
			if sizes[f.ID] += len(m.Data); len(m.Data) == 0 {
				ended++
			}
		default:
			p.t.Errorf("a piece has %s", m.Type())
		}
	}
	return sizes
}

// Whoever gives bytes to a file, or takes them, may be slow: Close does not wait
// for them, and what was not taken comes again.
func TestFileBesideSlowCallers(t *testing.T) {
	script(t, 7, func(c *client.Client, p *peer) {
		t := p.t
		f := open(t, c, p, os.O_RDWR)
		wait := background(func() {
			for _, at := range []uint64{0, 2} {
				id := p.operation(read(at, 64<<10))
				p.write(golden(t, id, dataEll))
				p.succeed(id)
			}
			p.closes()
		})
		full := errors.New("full")
		n, err := f.WriteTo(writer(func(b []byte) (int, error) { return 2, full }))
		if n != 2 || !errors.Is(err, full) {
			t.Errorf("WriteTo = %d, %v", n, err)
		}
		b := make([]byte, 9)
		if n, err := f.Read(b); string(b[:n]) != "ell" || err != nil {
			t.Errorf("Read = %q, %v", b[:n], err)
		}
		r, w := io.Pipe()
		reading := background(func() {
			if _, err := f.ReadFrom(r); !errors.Is(err, fs.ErrClosed) {
				t.Errorf("ReadFrom = %v", err)
			}
		})
		synctest.Wait()
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		wait()
		if _, err := w.Write([]byte("late")); err != nil {
			t.Error(err)
		}
		reading()
	})
}

type writer func(b []byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }

// A file whose context ends before it is open is closed when it is.
func TestOpenLate(t *testing.T) {
	script(t, 7, func(c *client.Client, p *peer) {
		t := p.t
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		wait := background(func() {
			id := p.operation(&wire.OpOpenFile{Path: "/f", Options: wire.OpenOptions{Read: true, Mode: new(uint32(0))}})
			<-ctx.Done()
			p.write(golden(t, id, handle1))
			p.closes()
		})
		if _, err := c.Open(ctx, "/f"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Open = %v", err)
		}
		wait()
	})
}

// What an agent must not say in a file's session ends that session alone.
func TestBadFileFrames(t *testing.T) {
	for name, answer := range map[string]func(p *peer, id uint32){
		"more than asked for": func(p *peer, id uint32) { p.send(id, &wire.FSData{Data: make([]byte, 6)}) },
		"another message":     func(p *peer, id uint32) { p.send(id, new(wire.Pong)) },
		"no message":          func(p *peer, id uint32) { p.raw(id, 1, "\xff") },
	} {
		script(t, 7, func(c *client.Client, p *peer) {
			t := p.t
			f := open(t, c, p, os.O_RDONLY)
			wait := background(func() {
				answer(p, p.operation(read(0, 5)))
				p.closes()
			})
			_, err := f.ReadAt(make([]byte, 5), 0)
			if _, ok := errors.AsType[*client.FrameError](err); !ok {
				t.Errorf("%s: %v", name, err)
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
			wait()
		})
	}
}

// What needs a later generation says so, and which.
func TestFeatureGenerations(t *testing.T) {
	script(t, 1, func(c *client.Client, p *peer) {
		t := p.t
		_, opened := c.Open(t.Context(), "/f")
		_, dialed := c.DialContext(t.Context(), "tcp", "127.0.0.1:80")
		for _, tt := range []struct {
			err  error
			want client.GenerationError
		}{
			{opened, client.GenerationError{Feature: "files", Message: string(wire.TypeFSRequest), Needs: 2, Have: 1}},
			{dialed, client.GenerationError{Feature: "TCP connections", Message: string(wire.TypeTCPConnect), Needs: 4, Have: 1}},
		} {
			got, ok := errors.AsType[*client.GenerationError](tt.err)
			if !ok || !reflect.DeepEqual(*got, tt.want) || !errors.Is(tt.err, errors.ErrUnsupported) {
				t.Errorf("%v, want %v", tt.err, &tt.want)
			}
		}
	})
}

// A file's size is what the guest says, and no reason to take as much memory.
func TestReadFileOfAnySize(t *testing.T) {
	content := bytes.Repeat([]byte("x"), 100<<10)
	for _, size := range []uint64{0, 1 << 46, 1<<63 - 1, 1<<64 - 1} {
		script(t, 7, func(c *client.Client, p *peer) {
			defer background(func() { p.file(content, size) })()
			if b, err := c.ReadFile(p.t.Context(), "/f"); !bytes.Equal(b, content) || err != nil {
				p.t.Errorf("size %d: read %d bytes, %v", size, len(b), err)
			}
		})
	}
}

// file plays a file, that is said to have a size, from its opening to its closing.
func (p *peer) file(content []byte, size uint64) {
	p.opens(wire.OpenOptions{Read: true})
	for {
		f, ok := p.next()
		if !ok {
			return
		}
		req, ok := p.message(f).(*wire.FSRequest)
		if !ok {
			p.t.Errorf("want a request, got flags %v", f.Flags)
			return
		}
		switch op := req.Op.(type) {
		case *wire.OpFStat:
			p.send(f.ID, &wire.FSResponse{OK: true, Data: &wire.ResultStat{Entry: wire.FSEntry{Path: "/f", Kind: wire.EntryFile, Size: size}}})
		case *wire.OpRead:
			rest := content[min(op.Offset, uint64(len(content))):]
			p.send(f.ID, &wire.FSData{Data: rest[:min(*op.Len, uint64(len(rest)))]})
			p.succeed(f.ID)
		case *wire.OpCloseHandle:
			p.succeed(f.ID)
			return
		}
	}
}

// The error that ends the reading of a file comes out, be it in the first piece or in
// the rest.
func TestReadFileFails(t *testing.T) {
	for _, pieces := range []int{0, 1} {
		script(t, 7, func(c *client.Client, p *peer) {
			wait := background(func() {
				p.opens(wire.OpenOptions{Read: true})
				for range pieces {
					f, _ := p.next()
					if req, ok := p.message(f).(*wire.FSRequest); ok {
						if op, ok := req.Op.(*wire.OpRead); ok {
							p.send(f.ID, &wire.FSData{Data: make([]byte, *op.Len)})
						}
					}
					p.succeed(f.ID)
					f, _ = p.next() // The size.
					p.send(f.ID, &wire.FSResponse{OK: true, Data: &wire.ResultStat{Entry: wire.FSEntry{Path: "/f", Kind: wire.EntryFile, Size: 1 << 20}}})
				}
				f, _ := p.next()
				p.refuse(f.ID, "read: I/O error (os error 5)")
				p.closes()
			})
			if b, err := c.ReadFile(p.t.Context(), "/f"); (len(b) > 0) != (pieces > 0) || !errors.Is(err, syscall.EIO) {
				p.t.Errorf("after %d pieces: read %d bytes, %v", pieces, len(b), err)
			}
			wait()
		})
	}
}

// After a failed write, WriteAt writes nothing.
func TestWriteAtBehindFailure(t *testing.T) {
	script(t, 7, func(c *client.Client, p *peer) {
		f := open(p.t, c, p, os.O_WRONLY)
		wait := background(func() {
			id := p.operation(&wire.OpWrite{Handle: 1})
			p.expect(&wire.FSData{Data: []byte("one")})
			p.expect(&wire.FSData{Data: []byte{}})
			p.refuse(id, "write: No space left on device (os error 28)")
			p.closes()
		})
		if _, err := f.WriteString("one"); err != nil {
			p.t.Error(err)
		}
		if n, err := f.WriteAt([]byte("two"), 9); n != 0 || !errors.Is(err, syscall.ENOSPC) {
			p.t.Errorf("WriteAt = %d, %v", n, err)
		}
		if err := f.Close(); err != nil {
			p.t.Error(err)
		}
		wait()
	})
}
