package archive_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/agentd-go/agentd/internal/archive"
)

// zeros is an archive whose last member ends with blocks of zeros, which are not the
// archive's end. It says where the member ends.
func zeros(t *testing.T) (b []byte, member int) {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	content := make([]byte, 4*512)
	if err := w.WriteHeader(&tar.Header{Name: "zeros", Typeflag: tar.TypeReg, Size: int64(len(content))}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	member = buf.Len()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes(), member
}

// An archive is whole with one end block or two, and cut everywhere else, whether its
// members are read or passed over.
func TestCuts(t *testing.T) {
	whole, member := zeros(t)
	for cut := 0; cut <= len(whole); cut += 64 {
		for _, read := range []bool{false, true} {
			err := readAll(archive.NewReader(bytes.NewReader(whole[:cut])), read)
			if want := cut == member+512 || cut == len(whole); (err == nil) != want {
				t.Errorf("cut after %d of %d bytes, members read: %t: %v", cut, len(whole), read, err)
			}
			if (cut == 0 || cut == member) && !errors.Is(err, archive.ErrNoEnd) {
				t.Errorf("cut between members, after %d bytes: %v", cut, err)
			}
		}
	}
}

// A cut after the records of a member is no end either.
func TestCutsInRecords(t *testing.T) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, name := range []string{"a", "b"} {
		h := &tar.Header{Name: name, Typeflag: tar.TypeReg, Format: tar.FormatPAX, PAXRecords: map[string]string{"OUR.key": "value"}}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	whole := buf.Bytes()
	for cut := 0; cut < len(whole)-512; cut += 64 {
		if err := readAll(archive.NewReader(bytes.NewReader(whole[:cut])), false); err == nil {
			t.Errorf("cut after %d of %d bytes was not seen", cut, len(whole))
		}
	}
}

func readAll(r *archive.Reader, members bool) error {
	for {
		_, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil && members {
			_, err = io.Copy(io.Discard, r)
		}
		if err != nil {
			return err
		}
	}
}

func TestDrain(t *testing.T) {
	whole, _ := zeros(t)
	from := bytes.NewReader(append(whole, make([]byte, 8<<10)...))
	r := archive.NewReader(from)
	if err := errors.Join(readAll(r, false), r.Drain()); err != nil || from.Len() > 0 {
		t.Errorf("%v, %d bytes are left", err, from.Len())
	}
}
