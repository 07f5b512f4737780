package agent_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/internal/guest/agent"
	"github.com/agentd-go/agentd/internal/nstest"
	"github.com/agentd-go/agentd/internal/relay"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

// linesName is what the test binary is called when it writes lines.
const linesName = "numbered-lines"

// writeLines writes a numbered line every millisecond. What is late is written at once, so that
// the time is the same on a busy host.
func writeLines(lines int) {
	for i, start := 0, time.Now(); i < lines; i++ {
		time.Sleep(time.Until(start.Add(time.Duration(i) * time.Millisecond)))
		fmt.Println(i)
	}
}

// TestKeptTorn has a command that writes a numbered line every millisecond. Two readers attach
// through a relay, are torn off at random moments, and attach again at the offset that they
// have: each gets all lines exactly once. AGENTD_LONG=1 is five minutes and 500 times.
func TestKeptTorn(t *testing.T) {
	lines, tears, between := 4000, 60, 60*time.Millisecond
	if os.Getenv("AGENTD_LONG") == "1" {
		lines, tears, between = 300_000, 500, 1100*time.Millisecond
	}
	nstest.Run(t, func() {
		nstest.Root(t)
		seed := uint64(time.Now().UnixNano())
		t.Logf("seed %d", seed)
		s := newSocket(t)
		c := s.dial()
		cmd := c.Command("/bin/sh", "-c", fmt.Sprintf("exec -a %s /proc/1/exe %d", linesName, lines))
		cmd.Keep = &client.Keep{Name: "lines", Disk: 64 << 20}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
		var all sync.WaitGroup
		for i := range 2 {
			r := &tornReader{t: t, s: s, lines: lines, tears: tears / 2, between: between, random: rand.New(rand.NewPCG(seed, uint64(i)))}
			all.Go(r.run)
		}
		all.Wait()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		t.Logf("heap of test and agent together: %d KiB in use", m.HeapInuse>>10)
		if m.HeapInuse > 64<<20 {
			t.Errorf("the heap has %d bytes", m.HeapInuse)
		}
	})
}

// A socket is an agent behind a relay that clients reach.
type socket struct {
	t    *testing.T
	path string
}

func newSocket(t *testing.T) *socket {
	t.Helper()
	port, ours := link(t)
	h := &host{t: t, end: make(chan served, 1)}
	h.serve(agent.Open(port), port, config{})
	f, err := frame.NewReader(ours).Next()
	if err != nil {
		t.Fatal(err)
	}
	ready, err := frame.Append(nil, f)
	if err != nil {
		t.Fatal(err)
	}
	s := &socket{t: t, path: filepath.Join(t.TempDir(), "agent")}
	l, err := net.Listen("unix", s.path)
	if err != nil {
		t.Fatal(err)
	}
	say := func(id uint32, m wire.Message) []byte { return bytesOf(t, speaks, id, m) }
	r := relay.New(relay.Config{Link: ours, Ready: ready, Words: relay.Words{
		Kill:  func(id uint32) []byte { return say(id, &wire.ExecSignal{Signal: 9}) },
		Hold:  func(id uint32) []byte { return say(id, &wire.ExecSignal{Output: wire.OutputHold}) },
		Go:    func(id uint32) []byte { return say(id, &wire.ExecSignal{Output: wire.OutputGo}) },
		Probe: func(id uint32) []byte { return say(id, new(wire.Ping)) },
		Left: func(start, end uint32, _ *relay.Incarnation) []byte {
			return say(0, &wire.ClientDisconnected{IDStart: start, IDEndExclusive: end})
		},
		IsCommand: func(frame.Frame) bool { return true },
	}})
	go r.Serve(l)
	t.Cleanup(func() { _ = r.Close() })
	return s
}

// dial connects a new client.
func (s *socket) dial() *client.Client {
	s.t.Helper()
	c, err := client.Connect(context.Background(), s.path)
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// A tornReader reads one output in pieces.
type tornReader struct {
	t       *testing.T
	s       *socket
	lines   int
	tears   int
	between time.Duration // The longest time between two tears.
	random  *rand.Rand
	at      uint64
	next    int // The number of the next line.
	rest    string
}

func (r *tornReader) run() {
	torn := 0
	for r.once(torn < r.tears) != nil {
		torn++
	}
	if torn < r.tears {
		r.t.Errorf("the command ended after %d tears of %d", torn, r.tears)
	}
	if r.next != r.lines || r.rest != "" {
		r.t.Errorf("%d of %d lines, and %q", r.next, r.lines, r.rest)
	}
}

// once attaches, and is torn off after a random time in one of several ways. The error is nil
// at the command's end.
func (r *tornReader) once(tear bool) error {
	c := r.s.dial()
	defer func() { _ = c.Close() }()
	cmd := c.Attach(context.Background(), "lines", client.View{Stdout: &r.at, Gap: func(_ bool, at uint64) {
		r.t.Errorf("a gap up to %d", at)
	}})
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	if tear {
		time.AfterFunc(time.Duration(r.random.Int64N(int64(r.between))), func() { _ = c.Close() })
	}
	in := bufio.NewReaderSize(out, 1+r.random.IntN(5000))
	for {
		b := make([]byte, 1+r.random.IntN(5000))
		n, err := in.Read(b)
		r.take(string(b[:n]))
		if err != nil {
			break
		}
	}
	return cmd.Wait()
}

// take counts the lines that have come.
func (r *tornReader) take(text string) {
	r.at += uint64(len(text))
	lines := strings.Split(r.rest+text, "\n")
	r.rest = lines[len(lines)-1]
	for _, l := range lines[:len(lines)-1] {
		if l != strconv.Itoa(r.next) {
			r.t.Fatalf("line %q in place of %d", l, r.next)
		}
		r.next++
	}
}

// A follower connects again whenever its link ends, and writes each byte once.
func TestKeptFollow(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		s := newSocket(t)
		c := s.dial()
		cmd := c.Command("/bin/sh", "-c", "i=0; while [ $i -lt 300 ]; do echo $i; i=$((i+1)); usleep 1000; done; echo end >&2; exit 3")
		cmd.Keep = &client.Keep{Name: "lines"}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
		links := 0
		dial := func(ctx context.Context) (*client.Client, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, "unix", s.path)
			if err != nil {
				return nil, err
			}
			if links++; links <= 5 {
				time.AfterFunc(30*time.Millisecond, func() { _ = conn.Close() })
			}
			return client.ConnectOver(ctx, conn)
		}
		var stdout, stderr strings.Builder
		err := client.Follow(t.Context(), dial, "lines", client.View{}, &stdout, &stderr)
		exit, ok := errors.AsType[*client.ExitError](err)
		if !ok || exit.ExitCode() != 3 || stderr.String() != "end\n" || links < 5 {
			t.Errorf("%v after %d links, %q", err, links, &stderr)
		}
		lines := strings.Fields(stdout.String())
		for i, l := range lines {
			if l != strconv.Itoa(i) {
				t.Fatalf("line %d is %q", i, l)
			}
		}
		if len(lines) != 300 {
			t.Errorf("%d lines", len(lines))
		}
	})
}
