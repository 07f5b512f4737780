package frame

import (
	"bytes"
	"testing"
)

func TestSparesAreWhatBodiesAreMadeOf(t *testing.T) {
	t.Parallel()
	const size = 64 << 10
	data := bytes.Repeat([]byte{1}, size)
	s := NewSpares()
	var link bytes.Buffer
	for range 2 {
		b, err := Append(nil, Frame{Body: data})
		if err != nil {
			t.Fatal(err)
		}
		link.Write(b)
	}
	r := NewReader(&link)
	r.Spares = s
	first, err := r.Next()
	if err != nil {
		t.Fatal(err)
	}
	copy(first.Body, bytes.Repeat([]byte{9}, size))
	const envelope = 50
	s.Give(first.Body[envelope:])
	second, err := r.Next()
	if err != nil {
		t.Fatal(err)
	}
	if &second.Body[0] != &first.Body[envelope] {
		t.Error("the second body has memory of its own")
	}
	if !bytes.Equal(second.Body, data) {
		t.Error("the second body is not what was sent")
	}
}

func TestSparesKeepLittle(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name         string
		given, asked int
	}{
		{"short", leastSpare - 1, leastSpare - 1},
		{"long", mostSpare + 1, mostSpare + 1},
		{"too short for what is asked", leastSpare, leastSpare + 1},
		{"holds much more than is asked", 4 * leastSpare, 2 * leastSpare},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s, given := NewSpares(), make([]byte, c.given)
			s.Give(given)
			if got := s.take(c.asked); len(got) != c.asked || &got[0] == &given[0] {
				t.Errorf("%d bytes of what was given, want %d of others", len(got), c.asked)
			}
		})
	}
	t.Run("many", func(t *testing.T) {
		t.Parallel()
		s := NewSpares()
		for range 2 * spareBodies {
			s.Give(make([]byte, leastSpare))
		}
		if len(s.kept) != spareBodies {
			t.Errorf("keeps %d, want %d", len(s.kept), spareBodies)
		}
	})
}

func TestNoSpares(t *testing.T) {
	t.Parallel()
	var s *Spares
	s.Give(make([]byte, leastSpare))
	if got := s.take(leastSpare); len(got) != leastSpare {
		t.Errorf("%d bytes, want %d", len(got), leastSpare)
	}
}
