package frame

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/iotest"
)

// sample is a stream with bodies around every size that a Reader treats apart.
func sample(tb testing.TB) (stream []byte, frames []Frame) {
	tb.Helper()
	for i, n := range []int{0, 1, 300, bufferSize - HeaderSize, bufferSize, 3 * bufferSize, 2} {
		f := Frame{ID: uint32(i), Flags: Flags(i), Body: bytes.Repeat([]byte{byte(i + 1)}, n)}
		var err error
		if stream, err = Append(stream, f); err != nil {
			tb.Fatal(err)
		}
		frames = append(frames, f)
	}
	return stream, frames
}

func readAll(r *Reader) (frames []Frame, err error) {
	for {
		f, err := r.Next()
		if err != nil {
			return frames, err
		}
		frames = append(frames, f)
	}
}

func sameFrames(a, b []Frame) bool {
	return slices.EqualFunc(a, b, func(x, y Frame) bool {
		return x.ID == y.ID && x.Flags == y.Flags && bytes.Equal(x.Body, y.Body)
	})
}

// chunks returns at most n bytes for each read.
type chunks struct {
	r io.Reader
	n int
}

func (c chunks) Read(p []byte) (int, error) { return c.r.Read(p[:min(c.n, len(p))]) }

// idle returns nothing, without an error, before each read.
type idle struct {
	r     io.Reader
	ready bool
}

func (i *idle) Read(p []byte) (int, error) {
	if i.ready = !i.ready; i.ready {
		return 0, nil
	}
	return i.r.Read(p)
}

func TestReaderTakesAnySplit(t *testing.T) {
	t.Parallel()
	stream, want := sample(t)
	for name, split := range map[string]func(io.Reader) io.Reader{
		"whole":         func(r io.Reader) io.Reader { return r },
		"one byte":      iotest.OneByteReader,
		"half":          iotest.HalfReader,
		"EOF with data": iotest.DataErrReader,
		"a page":        func(r io.Reader) io.Reader { return chunks{r, 4096} },
		"7":             func(r io.Reader) io.Reader { return chunks{r, 7} },
		"empty reads":   func(r io.Reader) io.Reader { return &idle{r: r} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := readAll(NewReader(split(bytes.NewReader(stream))))
			if !errors.Is(err, io.EOF) || !sameFrames(got, want) {
				t.Errorf("got %d frames of %d, %v", len(got), len(want), err)
			}
		})
	}
}

// A whole frame has exactly the bytes that arrived, even if a Next was interrupted in it.
func TestReaderNextWhole(t *testing.T) {
	t.Parallel()
	stream, want := sample(t)
	for _, n := range interruptions(stream) {
		r := NewReader(&interrupted{r: bytes.NewReader(stream), n: n})
		before, err := readAll(r)
		if !errors.Is(err, errLater) {
			t.Fatalf("at %d: %v", n, err)
		}
		var again []byte
		for _, f := range before {
			if again, err = Append(again, f); err != nil {
				t.Fatal(err)
			}
		}
		for i := len(before); i < len(want); i++ {
			f, whole, err := r.NextWhole()
			if err != nil || !sameFrames([]Frame{f}, want[i:i+1]) {
				t.Fatalf("at %d: frame %d differs, %v", n, i, err)
			}
			again = append(again, whole...)
		}
		if _, _, err := r.NextWhole(); !errors.Is(err, io.EOF) || !bytes.Equal(again, stream) {
			t.Fatalf("at %d: the frames are not the stream, %v", n, err)
		}
	}
}

func TestReaderTakesMaximalFramesBackToBack(t *testing.T) {
	t.Parallel()
	one, err := Append(nil, Frame{ID: 9, Body: make([]byte, MaxBody)})
	if err != nil {
		t.Fatal(err)
	}
	got, err := readAll(NewReader(bytes.NewReader(bytes.Repeat(one, 3))))
	if !errors.Is(err, io.EOF) || len(got) != 3 {
		t.Fatalf("got %d frames, %v", len(got), err)
	}
	for _, f := range got {
		if f.ID != 9 || len(f.Body) != MaxBody {
			t.Errorf("id %d with %d bytes", f.ID, len(f.Body))
		}
	}
}

func TestReaderEnds(t *testing.T) {
	t.Parallel()
	stream, err := Append(nil, Frame{ID: 1, Body: []byte("body")})
	if err != nil {
		t.Fatal(err)
	}
	for n := range stream {
		want := io.ErrUnexpectedEOF
		if n == 0 {
			want = io.EOF
		}
		_, err := NewReader(bytes.NewReader(stream[:n])).Next()
		if !errors.Is(err, want) {
			t.Errorf("after %d bytes: %v, want %v", n, err, want)
		}
	}
}

// blocked fails the test when it is read from.
type blocked struct{ t *testing.T }

func (b blocked) Read([]byte) (int, error) {
	b.t.Error("read on after the length was known to be bad")
	return 0, io.EOF
}

func TestReaderRefusesLengthAtOnce(t *testing.T) {
	t.Parallel()
	for length, head := range map[uint32]string{
		0:          "\x00\x00\x00\x00",
		4:          "\x00\x00\x00\x04",
		4194305:    "\x00\x40\x00\x01",
		0xFFFFFFFF: "\xff\xff\xff\xff",
		1:          "\x00\x00\x00\x01 and more of a burst",
	} {
		r := NewReader(io.MultiReader(bytes.NewReader([]byte(head)), blocked{t}))
		for range 2 { // it does not get better
			_, err := r.Next()
			var bad *LengthError
			if !errors.As(err, &bad) || bad.Length != length {
				t.Errorf("length %d: %v", length, err)
			}
		}
	}
}

func TestReaderAllocatesOnlyBody(t *testing.T) {
	stream, err := Append(nil, Frame{Body: make([]byte, 100)})
	if err != nil {
		t.Fatal(err)
	}
	source := bytes.NewReader(nil)
	r := NewReader(source)
	var body []byte
	allocs := testing.AllocsPerRun(100, func() {
		source.Reset(stream)
		f, err := r.Next()
		if err != nil {
			t.Error(err)
		}
		body = f.Body
	})
	if allocs != 1 || cap(body) != 100 {
		t.Errorf("%v allocations, capacity %d", allocs, cap(body))
	}
}

func TestReaderBodyBelongsToCaller(t *testing.T) {
	t.Parallel()
	stream, want := sample(t)
	r := NewReader(bytes.NewReader(stream))
	var got []Frame
	for {
		f, err := r.Next()
		if err != nil {
			break
		}
		kept := f
		kept.Body = bytes.Clone(f.Body)
		got = append(got, kept)
		clear(f.Body[:cap(f.Body)])
	}
	if !sameFrames(got, want) {
		t.Error("writing to a body changed a later frame")
	}
}

// errLater is an interruption, such as a deadline.
var errLater = errors.New("later")

// interrupted fails once after n bytes.
type interrupted struct {
	r    io.Reader
	n    int
	done bool
}

func (i *interrupted) Read(p []byte) (int, error) {
	if i.n == 0 && !i.done {
		i.done = true
		return 0, errLater
	}
	if !i.done {
		p = p[:min(len(p), i.n)]
	}
	n, err := i.r.Read(p)
	i.n -= n
	return n, err
}

// interruptions are the places in a stream at which anything could go wrong.
func interruptions(stream []byte) []int {
	at := []int{len(stream) - 1, len(stream)}
	for n := 0; n < len(stream); n += max(1, n/40) {
		at = append(at, n)
	}
	return at
}

func TestReaderGoesOnAfterInterruption(t *testing.T) {
	t.Parallel()
	stream, want := sample(t)
	for _, n := range interruptions(stream) {
		r := NewReader(&interrupted{r: bytes.NewReader(stream), n: n})
		before, err := readAll(r)
		if !errors.Is(err, errLater) {
			t.Fatalf("at %d: %v", n, err)
		}
		after, err := readAll(r)
		if !errors.Is(err, io.EOF) || !sameFrames(append(before, after...), want) {
			t.Errorf("at %d: %d and %d frames, %v", n, len(before), len(after), err)
		}
	}
}

func TestReaderHandsOver(t *testing.T) {
	t.Parallel()
	stream, want := sample(t)
	for _, n := range interruptions(stream) {
		source := &interrupted{r: bytes.NewReader(stream), n: n}
		first := NewReader(source)
		before, err := readAll(first)
		if !errors.Is(err, errLater) {
			t.Fatalf("at %d: %v", n, err)
		}
		leftover := first.Buffered()
		second := NewReaderFrom(leftover, source)
		if again := second.Buffered(); !bytes.Equal(again, leftover) {
			t.Fatalf("at %d: %d bytes handed over, %d taken", n, len(leftover), len(again))
		}
		clear(leftover)
		after, err := readAll(second)
		if !errors.Is(err, io.EOF) || !sameFrames(append(before, after...), want) {
			t.Errorf("at %d: %d and %d frames, %v", n, len(before), len(after), err)
		}
		if len(second.buf) != bufferSize {
			t.Errorf("at %d: still holds a buffer of %d bytes", n, len(second.buf))
		}
	}
}

// broken returns what no io.Reader may.
type broken int

func (b broken) Read([]byte) (int, error) { return int(b), nil }

func TestReaderDistrustsItsSource(t *testing.T) {
	t.Parallel()
	for n, want := range map[broken]error{
		-1:             errCount,
		bufferSize + 1: errCount,
		0:              io.ErrNoProgress,
	} {
		if _, err := NewReader(n).Next(); !errors.Is(err, want) {
			t.Errorf("reads of %d: %v, want %v", n, err, want)
		}
	}
}

func FuzzReader(f *testing.F) {
	stream, _ := sample(f)
	f.Add(stream[:400], uint16(3))
	f.Fuzz(func(t *testing.T, stream []byte, size uint16) {
		frames, err := readAll(NewReader(chunks{bytes.NewReader(stream), int(size) + 1}))
		var again []byte
		for _, f := range frames {
			var appendErr error
			if again, appendErr = Append(again, f); appendErr != nil {
				t.Fatal(appendErr)
			}
		}
		if !bytes.HasPrefix(stream, again) {
			t.Fatalf("frames are not what was sent: %x", again)
		}
		if errors.Is(err, io.EOF) && len(again) != len(stream) {
			t.Fatalf("%d bytes vanished", len(stream)-len(again))
		}
		whole, wholeErr := readAll(NewReader(bytes.NewReader(stream)))
		if !sameFrames(whole, frames) || wholeErr.Error() != err.Error() {
			t.Fatalf("the split matters: %d frames, %v; %d frames, %v", len(frames), err, len(whole), wholeErr)
		}
	})
}

// A body that was given back is the memory of the next body of about its size, and of no other.
func TestReuse(t *testing.T) {
	var stream []byte
	for _, n := range []int{100, 90, 5000, 10, 80} {
		stream, _ = Append(stream, Frame{ID: 1, Body: make([]byte, n)})
	}
	r := NewReader(bytes.NewReader(stream))
	next := func() []byte {
		t.Helper()
		f, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		return f.Body
	}
	first := next()
	r.Reuse(first)
	if second := next(); &second[0] != &first[0] || len(second) != 90 {
		t.Error("the second body has memory of its own")
	}
	r.Reuse(next()) // Longer than what is kept.
	r.Reuse(first)
	if tiny := next(); &tiny[0] == &first[0] {
		t.Error("ten bytes hold a hundred")
	}
	if last := next(); &last[0] != &first[0] {
		t.Error("the last body has memory of its own")
	}
}
