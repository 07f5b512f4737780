package pax

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"
)

// slowly is a source of pieces of n bytes.
func slowly(b []byte, n int) Source {
	return func() ([]byte, error) {
		if len(b) == 0 {
			return nil, io.EOF
		}
		p := bytes.Clone(b[:min(n, len(b))])
		b = b[len(p):]
		return p, nil
	}
}

func contents(h *Header) []byte {
	b := make([]byte, h.Stored())
	for i := range b {
		b[i] = byte(i*7 + len(h.Name))
	}
	return b
}

func archive(tb testing.TB, all []*Header) []byte {
	tb.Helper()
	var b []byte
	for _, h := range all {
		var err error
		if b, err = AppendHeader(b, h); err != nil {
			tb.Fatal(err)
		}
		b = append(append(b, contents(h)...), Padding(h)...)
	}
	return append(b, End()...)
}

func members() []*Header {
	long := strings.Repeat("long/", 60) + "name"
	return []*Header{
		{Name: ".", Kind: Directory, Mode: 0o1777, Sec: 1},
		{Name: "a", Kind: Regular, Mode: 0o4755, UID: 1, GID: 2, Size: 1000, Sec: 1700000000, Nsec: 123456789},
		{Name: "b", Kind: Regular, Mode: 0o600, UID: math.MaxUint32, GID: 1 << 21, Size: 512, Sec: -5, Nsec: 250000000},
		{Name: long, Kind: Regular, Mode: 0o644, Size: 1, Nsec: 1},
		{Name: long + "d", Kind: Directory, Mode: 0o755, Sec: 1 << 40},
		{Name: "l", Kind: Symlink, Link: long, Mode: 0o777},
		{Name: "h", Kind: HardLink, Link: "a", Mode: 0o644},
		{Name: "c", Kind: CharDevice, Major: 4095, Minor: 1<<20 - 1, Mode: 0o666},
		{Name: "k", Kind: BlockDevice, Major: 8, Minor: 1, Mode: 0o660},
		{Name: "f", Kind: Fifo, Mode: 0o644},
		{Name: "\xff\xfe not text", Kind: Regular, Size: 3},
		{Name: "x", Kind: Regular, Xattrs: []Xattr{{"user.a", "\x00\n=1"}, {"security.capability", strings.Repeat("z", 70000)}}},
		{Name: "s", Kind: Regular, Size: 1 << 40, Extents: []Extent{{0, 4096}, {1 << 30, 100}}},
		{Name: long + "s", Kind: Regular, Size: 5000, Extents: []Extent{}},
		{Name: "r", Kind: Regular, Records: []Xattr{{OwnPrefix + "size", "7"}}},
	}
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	b := archive(t, members())
	for _, n := range []int{1, 511, 512, 5000, len(b)} {
		r := NewReader(slowly(b, n))
		for _, want := range members() {
			got, err := r.Next()
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Fatalf("pieces of %d: %+v, %v; want %+v", n, got, err, want)
			}
			if data := all(t, r); !bytes.Equal(data, contents(want)) {
				t.Fatalf("%s: %d bytes differ", want.Name, len(data))
			}
		}
		if _, err := r.Next(); !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		if err := r.Drain(); err != nil {
			t.Fatal(err)
		}
	}
}

func all(tb testing.TB, r *Reader) (b []byte) {
	tb.Helper()
	for {
		p, err := r.Data()
		if errors.Is(err, io.EOF) {
			return b
		}
		if err != nil {
			tb.Fatal(err)
		}
		b = append(b, p...)
	}
}

// The standard library reads what we write.
func TestOtherReader(t *testing.T) {
	t.Parallel()
	var some []*Header
	for _, h := range members() {
		if h.Size < 1<<30 {
			some = append(some, h)
		}
	}
	r := tar.NewReader(bytes.NewReader(archive(t, some)))
	for _, want := range some {
		h, err := r.Next()
		if err != nil {
			t.Fatal(want.Name, err)
		}
		if strings.TrimSuffix(h.Name, "/") != want.Name || h.Typeflag != byte(want.Kind) || h.Size != want.Size ||
			!h.ModTime.Equal(time.Unix(want.Sec, want.Nsec)) || uint32(h.Mode) != want.Mode || h.Uid != int(want.UID) ||
			h.Linkname != want.Link || h.Devminor != int64(want.Minor) {
			t.Errorf("%+v, want %+v", h, want)
		}
		for _, x := range want.Xattrs {
			if h.PAXRecords["SCHILY.xattr."+x.Name] != x.Value {
				t.Errorf("%s: %q", x.Name, h.PAXRecords)
			}
		}
	}
	if _, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}

// We read what the standard library writes.
func TestOtherWriter(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range []string{"short", strings.Repeat("p/", 70) + "prefix", strings.Repeat("x", 200)} {
		h := &tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o640, Size: 5, Uid: 7, ModTime: time.Unix(9, 0)}
		if err := errors.Join(w.WriteHeader(h), func() error { _, err := w.Write([]byte("hello")); return err }()); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r := NewReader(slowly(b.Bytes(), 100))
	for range 3 {
		h, err := r.Next()
		if err != nil || h.Mode != 0o640 || h.UID != 7 || h.Sec != 9 || string(all(t, r)) != "hello" {
			t.Fatalf("%+v, %v", h, err)
		}
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	for _, h := range []*Header{
		{Name: "", Kind: Regular},
		{Name: "a\x00b", Kind: Regular},
		{Name: strings.Repeat("a", MaxName+1), Kind: Regular},
		{Name: "a", Kind: 'Z'},
		{Name: "a", Kind: Symlink},
		{Name: "a", Kind: Directory, Size: 1},
		{Name: "a", Kind: Regular, Size: -1},
		{Name: "a", Kind: Regular, Size: 10, Extents: []Extent{{5, 6}}},
		{Name: "a", Kind: Regular, Size: 10, Extents: []Extent{{5, 1}, {0, 1}}},
		{Name: "a", Kind: Regular, Size: 10, Extents: []Extent{{math.MaxInt64, math.MaxInt64}}},
		{Name: "a", Kind: Regular, Size: 1 << 20, Extents: make([]Extent, MaxExtents+1)},
		{Name: "a", Kind: Regular, Xattrs: []Xattr{{"user.a", strings.Repeat("x", MaxRecords)}}},
	} {
		if _, err := AppendHeader(nil, h); err == nil {
			t.Errorf("%.80v was written", fmt.Sprintf("%+v", h))
		}
	}
}

// Every cut of an archive is an error, and none is taken for the end.
func TestCuts(t *testing.T) {
	t.Parallel()
	some := []*Header{members()[1], members()[11], {Name: "s", Kind: Regular, Size: 9000, Extents: []Extent{{0, 10}}}}
	b := archive(t, some)
	for cut := 0; cut < len(b); cut += 97 {
		if _, err := readAll(b[:cut]); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("cut after %d of %d bytes: %v", cut, len(b), err)
		}
	}
}

// readAll reads an archive, and counts its members.
func readAll(b []byte) (n int, err error) {
	r := NewReader(slowly(b, 1000))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return n, r.Drain()
		}
		if err == nil {
			err = h.check()
		}
		for err == nil {
			_, err = r.Data()
		}
		if !errors.Is(err, io.EOF) {
			return n, err
		}
		n++
	}
}

// FuzzReader finds that a reader returns only what a writer accepts, whatever comes.
func FuzzReader(f *testing.F) {
	f.Add(archive(f, members()[:2]))
	f.Add(archive(f, members()[8:12]))
	f.Add(archive(f, []*Header{{Name: "s", Kind: Regular, Size: 9000, Extents: []Extent{{0, 10}, {100, 20}}}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := NewReader(slowly(b, 700))
		for {
			h, err := r.Next()
			if err != nil {
				return
			}
			if _, err := AppendHeader(nil, h); err != nil && !errors.Is(err, errRecords) {
				t.Fatalf("%+v was read, and is refused: %v", h, err)
			}
			for {
				if _, err := r.Data(); errors.Is(err, io.EOF) {
					break
				} else if err != nil {
					return
				}
			}
		}
	})
}
