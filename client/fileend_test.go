package client_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"testing"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/wire"
)

// A link that ends while a file is read is not the file's end, by whichever way it is
// read, and in whichever piece.
func TestReadingEndsWithLink(t *testing.T) {
	ways := map[string]func(c *client.Client, f *client.File) (int64, error){
		"ReadAll": func(_ *client.Client, f *client.File) (int64, error) {
			b, err := io.ReadAll(f)
			return int64(len(b)), err
		},
		"WriteTo": func(_ *client.Client, f *client.File) (int64, error) { return f.WriteTo(io.Discard) },
		"ReadAt": func(_ *client.Client, f *client.File) (int64, error) {
			n, err := f.ReadAt(make([]byte, 1<<20), 0)
			return int64(n), err
		},
		"ReadFull": func(_ *client.Client, f *client.File) (int64, error) {
			n, err := io.ReadFull(f, make([]byte, 1<<20))
			return int64(n), err
		},
		"ReadFile": func(c *client.Client, _ *client.File) (int64, error) {
			b, err := c.ReadFile(context.Background(), "/f")
			return int64(len(b)), err
		},
		"fs.ReadFile": func(c *client.Client, _ *client.File) (int64, error) {
			b, err := fs.ReadFile(c.FS(), "f")
			return int64(len(b)), err
		},
	}
	for name, way := range ways {
		for _, cut := range []int{0, 1, 1000} { // Bytes of the piece that is cut.
			script(t, 7, func(c *client.Client, p *peer) {
				f := open(p.t, c, p, os.O_RDONLY)
				wait := background(func() { p.cutFile(cut) })
				n, err := way(c, f)
				if _, ok := errors.AsType[*client.LinkError](err); !ok || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
					p.t.Errorf("%s, cut after %d bytes of a piece: %d bytes, %v", name, cut, n, err)
				}
				wait()
			})
		}
	}
}

// cutFile answers reads, and ends the link inside the first.
func (p *peer) cutFile(behind int) {
	for {
		f, ok := p.next()
		if !ok {
			return
		}
		req, _ := p.message(f).(*wire.FSRequest)
		switch req.Op.(type) {
		case *wire.OpOpenFile:
			p.send(f.ID, &wire.FSResponse{OK: true, Data: &wire.ResultHandle{Handle: 1}})
		case *wire.OpRead:
			if behind > 0 {
				p.send(f.ID, &wire.FSData{Data: make([]byte, behind)})
			}
			_ = p.conn.Close()
			return
		}
	}
}

// A context that is canceled with the end of a reader is not the end of a file.
func TestReadingEndsWithCause(t *testing.T) {
	script(t, 7, func(c *client.Client, p *peer) {
		ctx, cancel := context.WithCancelCause(p.t.Context())
		wait := background(func() {
			p.opens(wire.OpenOptions{Read: true})
			p.operation(read(0, 64<<10))
			cancel(io.EOF)
			p.closes()
		})
		f, err := c.Open(ctx, "/f")
		if err != nil {
			p.t.Fatal(err)
		}
		if b, err := io.ReadAll(f); err == nil || !errors.Is(err, context.Canceled) {
			p.t.Errorf("read %d bytes, %v", len(b), err)
		}
		_ = f.Close()
		wait()
	})
}

// The end of the link is the end of every file.
func TestFilesEndWithLink(t *testing.T) {
	script(t, 7, func(c *client.Client, p *peer) {
		t := p.t
		f := open(t, c, p, os.O_RDWR)
		wait := background(func() {
			p.operation(&wire.OpWrite{Handle: 1})
			_ = p.conn.Close()
		})
		if _, err := f.WriteString("x"); err != nil {
			t.Error(err)
		}
		wait()
		for what, err := range map[string]error{"Flush": f.Flush(), "Close": f.Close(), "Remove": c.Remove(t.Context(), "/f")} {
			if _, ok := errors.AsType[*client.LinkError](err); !ok {
				t.Errorf("%s = %v", what, err)
			}
		}
	})
}
