package stream

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func fifo(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(name, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// An input goes on when its writer leaves and another comes, and ends by CloseInput
// with what the fifo holds.
func TestInputEndsByCloseInputAlone(t *testing.T) {
	in := fifo(t)
	s, err := Open(t.Context(), Spec{Stdin: in})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ours, theirs := tcpPair(t)
	if err := s.Start(func(string) (net.Conn, error) { return ours, nil }); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"one ", "two"} {
		w, err := os.OpenFile(in, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.WriteString(text); err != nil {
			t.Fatal(err)
		}
		_ = w.Close()
	}
	s.CloseInput()
	_ = theirs.SetDeadline(time.Now().Add(10 * time.Second))
	got, err := io.ReadAll(theirs)
	if string(got) != "one two" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

// A short process can have ended before its client has opened the fifo. Its output stays
// until then, or until the process is deleted.
func TestOutputWaitsForItsReader(t *testing.T) {
	for _, comes := range []bool{true, false} {
		out := fifo(t)
		s, err := Open(t.Context(), Spec{Stdout: out})
		if err != nil {
			t.Fatal(err)
		}
		ours, theirs := tcpPair(t)
		if err := s.Start(func(string) (net.Conn, error) { return ours, nil }); err != nil {
			t.Fatal(err)
		}
		if _, err := theirs.Write([]byte("text")); err != nil {
			t.Fatal(err)
		}
		_ = theirs.Close()
		awaitNoReader(t, out)
		if comes {
			if got, err := os.ReadFile(out); string(got) != "text" || err != nil {
				t.Errorf("got %q, %v", got, err)
			}
			<-s.Drained()
		}
		s.Close()
		<-s.Drained()
	}
}

// awaitNoReader waits until nobody has a fifo open for reading: to open it for writing
// fails then (fifo(7)).
func awaitNoReader(t *testing.T, name string) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; <-time.After(time.Millisecond) {
		f, err := os.OpenFile(name, os.O_WRONLY|unix.O_NONBLOCK, 0)
		if errors.Is(err, unix.ENXIO) {
			return
		}
		if err != nil || time.Now().After(end) {
			t.Fatalf("the fifo is open for reading, %v", err)
		}
		_ = f.Close()
	}
}

// A client reads an output to its end before anybody deletes the process.
func TestOutputEndsWithTheGuests(t *testing.T) {
	out := fifo(t)
	s, err := Open(t.Context(), Spec{Stdout: "fifo://" + out})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	reader, err := os.OpenFile(out, os.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := tcpPair(t)
	if err := s.Start(func(string) (net.Conn, error) { return ours, nil }); err != nil {
		t.Fatal(err)
	}
	if _, err := theirs.Write([]byte("text")); err != nil {
		t.Fatal(err)
	}
	_ = theirs.Close()
	if got, err := io.ReadAll(reader); string(got) != "text" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	<-s.Drained()
}

func TestLogs(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "log")
	script := "#!/bin/sh\nexec 5>&-\n{ echo \"$CONTAINER_NAMESPACE $CONTAINER_ID $1 $2\"; cat <&3; cat <&4; } >" + dir + "/got\n"
	if err := os.WriteFile(program, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]string{
		"binary://" + program + "?a=b":   "ns id a b\ntext",
		"file://" + dir + "/got?ignored": "text",
	} {
		_ = os.Remove(dir + "/got")
		s, err := Open(t.Context(), Spec{Stdout: address, Stderr: "", ID: "id", Namespace: "ns"})
		if err != nil {
			t.Fatal(err)
		}
		err = s.Start(func(name string) (net.Conn, error) {
			ours, theirs := tcpPair(t)
			if name == "stdout" {
				_, _ = theirs.Write([]byte("text"))
			}
			return ours, theirs.Close()
		})
		if err != nil {
			t.Fatal(err)
		}
		<-s.Drained()
		s.Close()
		if got, err := os.ReadFile(dir + "/got"); string(got) != want || err != nil {
			t.Errorf("%s: %q, %v; want %q", address, got, err, want)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	plain := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, spec := range []Spec{{Stdin: plain}, {Stdout: "http://x/y"}, {Stdout: "binary://"}, {Stdout: "/nonexistent"}} {
		if s, err := Open(t.Context(), spec); err == nil {
			s.Close()
			t.Errorf("%+v was opened", spec)
		}
	}
}

func tcpPair(t *testing.T) (ours, theirs net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if ours, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if theirs, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return ours, theirs
}
