package sandbox_test

import (
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/agentd-go/agentd/internal/hooks"
	"github.com/agentd-go/agentd/internal/vmm"
	"github.com/agentd-go/agentd/sandbox"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

// A silent is a machine to which the test is the host.
type silent struct {
	*testing.T

	vm     *vmm.VM
	frames *frame.Reader
}

// startSilent starts one by message, or by variables if there are words.
func startSilent(t *testing.T, kernel string, words ...string) *silent {
	t.Helper()
	agent, err := agentFile()
	if err != nil {
		t.Fatal(err)
	}
	vm, remove, err := sandbox.StartSilent(t.Context(), hooks.With(sandbox.Config{Kernel: kernel, Agent: agent, Warm: sandbox.WarmNone}, hooks.Machine{ExtraWords: words}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		vm.Kill()
		if err := remove(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("console:\n%s", vm.Console())
		}
	})
	return &silent{t, vm, frame.NewReader(vm.Port())}
}

func (s *silent) send(b []byte) {
	s.Helper()
	if _, err := s.vm.Port().Write(b); err != nil {
		s.Fatal(err)
	}
}

// next is the next message, which must be an M, and its id.
func next[M wire.Message](s *silent) (M, uint32) {
	s.Helper()
	f, err := s.frames.Next()
	var got wire.Message
	if err == nil {
		var e wire.Envelope
		if e, err = wire.DecodeEnvelope(f.Body); err == nil {
			got, err = wire.Decode(e)
		}
	}
	m, ok := got.(M)
	if err != nil || !ok {
		s.Fatalf("got %+v (%v), want %s", got, err, m.Type())
	}
	return m, f.ID
}

// ends checks that the machine ends by itself, after least and before most, with words
// on its console.
func (s *silent) ends(least, most time.Duration, words string) {
	s.Helper()
	start := time.Now()
	select {
	case <-s.vm.Done():
	case <-time.After(most):
		s.Fatalf("the machine has not ended after %v", most)
	}
	if took := time.Since(start); took < least {
		s.Errorf("the machine ended after %v already", took)
	}
	if !strings.Contains(string(s.vm.Console()), words) {
		s.Errorf("no %q on the console", words)
	}
}

func message(t *testing.T, v wire.Generation, id uint32, m wire.Message) []byte {
	t.Helper()
	b, err := wire.AppendFrame(nil, v, id, m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// soon bounds answers that come at once, in emulation on a busy host.
const soon = 60 * time.Second

// TestGreeting is the host's side of boot sections 3, 5, 6, 12 and 23, word by word.
//
//holds:boot 3: boot, init and ready times in order
//holds:boot 3: one `core.ready`
//holds:boot 5: the five examples boot
//holds:boot 5: message and ack in one write; a newer generation with unknown keys
//holds:boot 6: by variables nothing is waited for before `core.init.resolved`; by message no `MSB_*` is needed; never both
//holds:boot 12: `core.init.resolved` first, with the ids of the image's accounts, before any mount of the user's
//holds:boot 12: a frame after the ack is acted on at once
//holds:boot 23: the host closes the port: the machine ends
//holds:boot 23: a frame longer than 4 MiB ends the machine
func TestGreeting(t *testing.T) {
	for _, kernel := range kernels(t) {
		t.Run(kernel, func(t *testing.T) {
			t.Parallel()
			ack := message(t, 7, 0, &wire.InitAck{})
			t.Run("in one write, by a newer host", func(t *testing.T) {
				s := startSilent(t, kernel)
				payload := "\xa3\x68hostname\x63box\x64user\x66nobody\x66future\x01"
				newer := "\xa3\x61v\x08\x61t\x6ecore.bootstrap\x61p\x58" + string(rune(len(payload))) + payload
				b, err := frame.Append(nil, frame.Frame{Body: []byte(newer)})
				if err != nil {
					t.Fatal(err)
				}
				s.send(append(append(b, ack...), message(t, 7, 5, &wire.Ping{})...))
				user, _ := next[*wire.InitResolved](s)
				if user.DefaultUser != (wire.User{UID: 65534, GID: 65534}) {
					t.Errorf("nobody is %+v", user)
				}
				ready, _ := next[*wire.Ready](s)
				if ready.BootTimeNS == 0 || ready.InitTimeNS == 0 || ready.BootTimeNS+ready.InitTimeNS > ready.ReadyTimeNS {
					t.Errorf("times %+v", ready)
				}
				if _, id := next[*wire.Pong](s); id != 5 {
					t.Errorf("the answer is on id %d", id)
				}
				s.send([]byte{0, 0x40, 0, 1}) // A byte more than any frame may have.
				s.ends(0, soon, "agent loop error: ")
			})
			t.Run("the smallest message, then the end of the host", func(t *testing.T) {
				s := startSilent(t, kernel)
				b, err := hex.DecodeString("000000380000000000a3617607617" + "46e636f72652e626f6f7473747261706170581aa17073656375726974795f70726f66696c656764656661756c74")
				if err != nil || len(b) != 60 {
					t.Fatal(len(b), err)
				}
				s.send(b)
				next[*wire.InitResolved](s)
				s.send(ack)
				next[*wire.Ready](s)
				if err := s.vm.Port().Close(); err != nil {
					t.Fatal(err)
				}
				s.ends(0, soon, "")
			})
			t.Run("by variables, the guest speaks first", func(t *testing.T) {
				s := startSilent(t, kernel, "MSB_SECURITY_PROFILE=default", "MSB_HOSTNAME=box")
				next[*wire.InitResolved](s)
				s.send(message(t, 7, 0, &wire.Bootstrap{}))
				s.ends(0, soon, "init failed: step handshake: waiting for core.init.ack: got core.bootstrap")
			})
		})
	}
}

// A first frame that is no core.bootstrap ends the machine.
//
//holds:boot 5: another type, id, flags or `v` = 6 first ends the machine
func TestWrongGreetings(t *testing.T) {
	kernel := kernels(t)[0]
	flagged := message(t, 7, 0, &wire.Bootstrap{})
	flagged[8] = byte(frame.Terminal)
	for _, tt := range []struct {
		name, want string
		first      []byte
	}{
		{"another type", "bootstrap receive failed: first frame is core.ping", message(t, 7, 0, &wire.Ping{})},
		{"an id", "bootstrap receive failed: first frame: id 1", message(t, 7, 1, &wire.Bootstrap{})},
		{"flags", "bootstrap receive failed: first frame: id 0, flags terminal", flagged},
		{"an old generation", "requires protocol generation 7 or newer, got 6", message(t, 6, 0, &wire.Bootstrap{})},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := startSilent(t, kernel)
			s.send(tt.first)
			s.ends(0, soon, tt.want)
		})
	}
}

// A host that says nothing, or nothing more, has a minute.
//
//holds:boot 5: no message: the machine ends after 60 s
//holds:boot 12: no ack: the machine ends after 60 s
func TestSilentHosts(t *testing.T) {
	kernel := kernels(t)[0]
	const minute, most = 58 * time.Second, 3 * time.Minute // The guest's clock is another.
	t.Run("from the beginning", func(t *testing.T) {
		t.Parallel()
		startSilent(t, kernel).ends(minute, most, "bootstrap receive failed: no core.bootstrap within 1m0s")
	})
	t.Run("before the mounts", func(t *testing.T) {
		t.Parallel()
		s := startSilent(t, kernel)
		s.send(message(t, 7, 0, &wire.Bootstrap{TmpfsMounts: []wire.TmpfsMount{{Path: "/data"}}}))
		next[*wire.InitResolved](s)
		s.ends(minute, most, "init failed: step handshake: no core.init.ack within 1m0s")
	})
}

// A host that closes the port before core.ready ends the machine at once.
//
//holds:boot 5, 12: a host that closes the port before the ack: the machine ends at once
func TestClosedPorts(t *testing.T) {
	kernel := kernels(t)[0]
	bootstrap := message(t, 7, 0, &wire.Bootstrap{})
	for _, tt := range []struct {
		name, want string
		words      []string
		says       []byte
	}{
		{"after the first message", "init failed: step handshake: ", nil, bootstrap},
		{"by variables", "init failed: step handshake: serial port closed while waiting for core.init.ack", []string{"MSB_HOSTNAME=box"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := startSilent(t, kernel, tt.words...)
			s.send(tt.says)
			next[*wire.InitResolved](s)
			if err := s.vm.Port().Close(); err != nil {
				t.Fatal(err)
			}
			s.ends(0, soon/2, tt.want)
		})
	}
}
