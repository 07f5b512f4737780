package contract

import (
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

// Texts of refusals (protocol section 15.2).
const (
	conflict  = "workload latch conflict: "
	differs   = conflict + "transport input cut differs from received complete frames"
	mismatch  = conflict + "restore requires its matching active freeze"
	pending   = conflict + "another transport cut is pending"
	uncut     = conflict + "restore requires a completed transport cut"
	recovery  = "recovery_required"
	freezeKey = wire.TypeWorkloadFreeze
	thawKey   = wire.TypeWorkloadThaw
)

func barrierRules() []Rule {
	return []Rule{
		{Name: "freeze: silence, and nothing lost", Check: freezeIsSilent, Freezes: true},
		{Name: "freeze: repeated, changed, of another attempt", Check: freezeRepeats, Freezes: true},
		{Name: "freeze: counters that differ", Check: freezeCounters},
		{Name: "freeze: names of attempts", Check: freezeNames, Freezes: true},
		{Name: "freeze: on ids of clients", Check: freezeElsewhere},
		{Name: "freeze: mounts", Check: freezeMounts, Freezes: true, Machine: true},
		{Name: "freeze: waits for data", Check: freezeWaits, Freezes: true},
		{Name: "freeze: every descendant stands still", Check: freezeDescendants, Freezes: true, Machine: true},
		{Name: "freeze: what is said meanwhile", Check: freezeCrossed, Freezes: true, Own: "it ends"},
		{Name: "thaw: nothing to thaw", Check: thawNothing},
		{Name: "thaw: credit, answer, output", Check: thawOrder, Freezes: true},
		{Name: "thaw: repeated", Check: thawRepeats, Freezes: true},
		{Name: "thaw: restore", Check: thawRestore, Freezes: true},
		{Name: "freeze: records, messages and totals after a restore", Check: totalsGoOn, Freezes: true},
	}
}

// enveloped is a frame with a payload in hexadecimal.
func enveloped(id uint32, t wire.Type, payload string) ([]byte, error) {
	p, err := hex.DecodeString(payload)
	if err != nil {
		return nil, err
	}
	body := "\xa3av\x09at\x78" + string([]byte{byte(len(t))}) + string(t) + "ap" + bytesHead(string(p))
	return frame.Append(nil, frame.Frame{ID: id, Body: []byte(body)})
}

// refuses sends a message on the id of nobody and is an error if it is not refused.
func (h *Host) refuses(m wire.Message, text string) error {
	if err := h.Bare(m); err != nil {
		return err
	}
	return h.fails(m, text)
}

// fails takes the refusal of a freeze or thaw as a conflict.
func (h *Host) fails(m wire.Message, text string) error {
	attempt := ""
	switch m := m.(type) {
	case *wire.WorkloadFreeze:
		attempt = m.AttemptID
	case *wire.WorkloadThaw:
		attempt = m.AttemptID
	}
	return h.refused(wire.WorkloadID, m.Type(), wire.ErrorInvalidSession, text, attempt, recovery)
}

// freezes stops the commands and returns the answer.
func (h *Host) freezes(attempt string, tags ...string) (*wire.WorkloadFrozen, error) {
	if err := h.Freeze(attempt, tags...); err != nil {
		return nil, err
	}
	return h.frozen(attempt)
}

func (h *Host) frozen(attempt string) (*wire.WorkloadFrozen, error) {
	r, err := h.Word()
	if err != nil {
		return nil, fmt.Errorf("freeze %s: %w", attempt, err)
	}
	m, ok := r.Message.(*wire.WorkloadFrozen)
	if !ok || m.AttemptID != attempt {
		return nil, fmt.Errorf("freeze %s: %s %+v", attempt, r.Type, r.Message)
	}
	return m, nil
}

// thaws lets everything go on.
func (h *Host) thaws(attempt string, mode wire.ThawMode) error {
	if err := h.Thaw(attempt, mode); err != nil {
		return err
	}
	_, err := h.thawed(attempt)
	return err
}

func (h *Host) thawed(attempt string) (nr int64, err error) {
	r, err := h.Word()
	if err != nil {
		return 0, fmt.Errorf("thaw %s: %w", attempt, err)
	}
	if !reflect.DeepEqual(r.Message, &wire.WorkloadThawed{AttemptID: attempt}) {
		return 0, fmt.Errorf("thaw %s: %s %+v", attempt, r.Type, r.Message)
	}
	return r.Nr, nil
}

// freezeIsSilent freezes commands that write, several times.
func freezeIsSilent(h *Host) error {
	const lines = 2000
	id := h.ID()
	if err := h.Put(id, Shell("i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done")); err != nil {
		return err
	}
	flood, err := h.starts("setsid yes & exec sleep 1000")
	if err != nil {
		return err
	}
	for range 4 {
		m, err := h.freezes("a1")
		if err != nil {
			return err
		}
		if m.InputCredit != h.Limit(none) || !m.ExternalMountsSynced || m.GuestBulkBytesTarget != 0 {
			return fmt.Errorf("%+v, want credit %+v", m, h.Limit(none))
		}
		if err := h.quiet("frozen"); err != nil {
			return err
		}
		if err := h.thaws("a1", wire.ThawContinue); err != nil {
			return err
		}
		h.Drop(flood, flood+1)
	}
	var out strings.Builder
	for i := range lines {
		out.WriteString("line " + strconv.Itoa(i) + "\n")
	}
	if r, err := h.Take(id); err != nil || r.Type != wire.TypeExecStarted {
		return fmt.Errorf("%s, %w", r.Type, err)
	}
	if err := h.outputs(id, out.String()); err != nil {
		return err
	}
	return first(func() error { return h.says("killall yes", "") }, func() error { return h.ends(flood) })
}

func freezeRepeats(h *Host) error {
	was, err := h.freezes("r1")
	if err != nil {
		return err
	}
	for range 3 {
		again, err := h.freezes("r1")
		if err != nil || *again != *was {
			return fmt.Errorf("%+v, and before %+v: %w", again, was, err)
		}
	}
	other := h.Sent
	other.ControlFrames++
	return first(
		func() error {
			m, err := h.freezes("r1", "unknown") // Mounts are synced again.
			if err == nil && m.ExternalMountsSynced {
				err = errors.New("an unknown mount was synced")
			}
			return err
		},
		func() error {
			return h.refuses(&wire.WorkloadFreeze{AttemptID: "r1", HostInput: other}, conflict+"frozen transport cut cannot change")
		},
		func() error { return h.refuses(&wire.WorkloadFreeze{AttemptID: "r2", HostInput: h.Sent}, mismatch) },
		func() error { return h.refuses(&wire.WorkloadFreeze{AttemptID: "r2", HostInput: other}, mismatch) },
		func() error {
			return h.refuses(&wire.WorkloadThaw{AttemptID: "r2", Mode: wire.ThawContinue}, conflict+`attempt "r1" owns the freeze`)
		},
		func() error {
			return h.refuses(&wire.WorkloadThaw{AttemptID: "r2", Mode: wire.ThawRestore}, mismatch)
		},
		func() error { return h.thaws("r1", wire.ThawContinue) },
	)
}

// freezeCounters states counters that are not what has been sent.
func freezeCounters(h *Host) error {
	for _, change := range []func(c *wire.TransportCounters){
		func(c *wire.TransportCounters) { c.ControlBytes++ },
		func(c *wire.TransportCounters) { c.ControlBytes-- },
		func(c *wire.TransportCounters) { c.ControlFrames++ },
		func(c *wire.TransportCounters) { c.ControlFrames-- },
		func(c *wire.TransportCounters) { c.BulkBytes-- },
		func(c *wire.TransportCounters) { c.BulkFrames-- },
	} {
		c := h.Sent
		change(&c)
		if err := h.refuses(&wire.WorkloadFreeze{AttemptID: "c", HostInput: c}, differs); err != nil {
			return err
		}
	}
	return h.says("echo on", "on\n")
}

func freezeNames(h *Host) error {
	const text = "invalid checkpoint attempt identity: must be 1-128 printable ASCII bytes without spaces"
	for _, name := range []string{"", "a b", "ä", "a\n", "\x7f", strings.Repeat("x", 129)} {
		for _, m := range []wire.Message{
			&wire.WorkloadFreeze{AttemptID: name, HostInput: h.Sent}, &wire.WorkloadThaw{AttemptID: name, Mode: wire.ThawContinue},
			&wire.WorkloadThaw{AttemptID: name, Mode: wire.ThawRestore},
		} {
			if err := h.Bare(m); err != nil {
				return err
			}
			if err := h.refused(wire.WorkloadID, m.Type(), wire.ErrorInvalidPayload, text, name, recovery); err != nil {
				return fmt.Errorf("name %q: %w", name, err)
			}
		}
	}
	for _, name := range []string{"!", "~", strings.Repeat("y", 128)} {
		_, err := h.freezes(name)
		if err == nil {
			err = h.thaws(name, wire.ThawContinue)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// freezeElsewhere asks on other ids: there the message is counted itself, so its own counters
// differ. The answer comes on that id.
func freezeElsewhere(h *Host) error {
	for _, id := range []uint32{7_000_000, 0} {
		err := h.Put(id, &wire.WorkloadFreeze{AttemptID: "e", HostInput: h.Sent})
		if err == nil {
			err = h.refused(id, freezeKey, wire.ErrorInvalidSession, differs, "e", recovery)
		}
		if err == nil {
			err = h.Settle(none)
		}
		if err == nil {
			err = h.Put(id, &wire.WorkloadThaw{AttemptID: "e", Mode: wire.ThawContinue})
		}
		if err == nil {
			err = h.refused(id, thawKey, wire.ErrorInvalidSession, conflict+"no matching workload freeze is active", "e", recovery)
		}
		if err != nil {
			return fmt.Errorf("id %d: %w", id, err)
		}
	}
	return h.Settle(none)
}

func freezeMounts(h *Host) error {
	for _, c := range []struct {
		tags   []string
		synced bool
	}{
		{nil, true},
		{[]string{"path:/"}, true},
		{[]string{"path:/dev/shm", "path:/dev/shm"}, true},
		{[]string{"path:/.msb"}, true},
		{[]string{"unknown"}, false},
		{[]string{""}, false},
		{[]string{"path:"}, false},
		{[]string{"path:/etc"}, false},
		{[]string{"path:/nowhere"}, false},
		{[]string{"path:dev/shm"}, false},
		{[]string{"path:/", "unknown"}, false},
		{[]string{"unknown", "path:/"}, false},
	} {
		m, err := h.freezes("m", c.tags...)
		if err == nil {
			err = h.thaws("m", wire.ThawContinue)
		}
		if err != nil || m.ExternalMountsSynced != c.synced {
			return fmt.Errorf("%q: %+v, %w", c.tags, m, err)
		}
	}
	return nil
}

// freezeWaits freezes before data that the host says it has sent.
func freezeWaits(h *Host) error {
	id, err := h.starts("read a; echo $a; read b; echo $b")
	if err != nil {
		return err
	}
	late := &wire.ExecStdin{Data: []byte("late\n")}
	b, err := wire.AppendFrame(nil, counts, id, late)
	if err != nil {
		return err
	}
	ahead := h.Sent
	ahead.BulkBytes, ahead.BulkFrames = ahead.BulkBytes+uint64(len(b)), ahead.BulkFrames+1
	early := &wire.WorkloadFreeze{AttemptID: "w", HostInput: ahead}
	other := &wire.WorkloadFreeze{AttemptID: "v", HostInput: ahead}
	more := *early
	more.HostInput.BulkBytes++
	thaw := &wire.WorkloadThaw{AttemptID: "w", Mode: wire.ThawContinue}
	err = first(
		func() error { return h.Settle(none) },
		func() error { return h.Bare(early) },
		func() error { return h.quiet("a freeze that waits") },
		func() error { return h.Bare(early) }, // The same again is no other.
		func() error { return h.quiet("the same freeze again") },
		func() error { return h.refuses(other, pending) },
		func() error { return h.refuses(&more, pending) },
		func() error { return h.refuses(&wire.WorkloadFreeze{AttemptID: "a b", HostInput: ahead}, pending) },
		func() error {
			return h.refuses(&wire.WorkloadThaw{AttemptID: "w", Mode: wire.ThawRestore}, uncut)
		},
		func() error {
			return h.refuses(&wire.WorkloadThaw{AttemptID: "v", Mode: wire.ThawContinue}, pending)
		},
		func() error {
			return h.refuses(&wire.WorkloadThaw{AttemptID: "v", Mode: wire.ThawRestore}, pending)
		},
		func() error { return h.Bare(thaw) },
		func() error { return h.fails(early, conflict+"transport cut aborted by source continuation") },
		func() error { _, err := h.thawed("w"); return err },
		func() error { return h.Bare(thaw) }, // Again.
		func() error { _, err := h.thawed("w"); return err },
		func() error {
			return h.refuses(&wire.WorkloadThaw{AttemptID: "w", Mode: wire.ThawRestore}, uncut)
		},
		func() error { return h.Bare(early) },
		func() error { return h.Put(id, late) },
		func() error { _, err := h.frozen("w"); return err },
		func() error { return h.quiet("frozen") },
		func() error { return h.thaws("w", wire.ThawContinue) },
		func() error { return h.Put(id, &wire.ExecStdin{Data: []byte("two\n")}) },
		func() error { return h.outputs(id, "late\ntwo\n") },
	)
	if err != nil {
		return err
	}
	return waitsForTooMuch(h)
}

// waitsForTooMuch freezes before data, of which more comes than the host has said.
func waitsForTooMuch(h *Host) error {
	id, err := h.starts("exec cat >/dev/null")
	if err != nil {
		return err
	}
	ahead := h.Sent
	ahead.BulkBytes, ahead.BulkFrames = ahead.BulkBytes+1, ahead.BulkFrames+1
	early := &wire.WorkloadFreeze{AttemptID: "x", HostInput: ahead}
	return first(
		func() error { return h.Bare(early) },
		func() error { return h.Put(id, &wire.ExecStdin{Data: []byte("more")}) },
		func() error { return h.fails(early, differs) },
		func() error { return h.ends(id) },
	)
}

// freezeDescendants freezes what has left its group, session and parent, and terminals.
func freezeDescendants(h *Host) error {
	tty := Shell("echo $$ >/tmp/tty; while :; do :; done")
	tty.TTY = true
	id := h.ID()
	if err := h.Put(id, tty); err != nil {
		return err
	}
	other, err := h.starts("(setsid sh -c 'echo $$ >/tmp/orphan; while :; do :; done' </dev/null >/dev/null 2>&1 &) ; exec sleep 1000")
	if err != nil {
		return err
	}
	return first(
		func() error {
			return h.says("while ! [ -s /tmp/tty -a -s /tmp/orphan ]; do sleep 0.05; done; cd /proc; cat self/cgroup $(cat /tmp/tty)/cgroup $(cat /tmp/orphan)/cgroup | sed 's,/[0-9]*$,,'", // Ours are in groups of their own below.
				strings.Repeat("0::/microsandbox-workload\n", 3))
		},
		func() error { _, err := h.freezes("d"); return err },
		func() error { return h.quiet("frozen") },
		func() error { return h.thaws("d", wire.ThawContinue) },
		func() error {
			return h.says("cat /proc/1/cgroup; kill -9 $(cat /tmp/tty) $(cat /tmp/orphan)", "0::/\n")
		},
		func() error { h.Drop(id, id+1); return h.ends(other) },
	)
}

// freezeCrossed says what a host must not say meanwhile. Each is refused on its id, and
// nothing comes of it.
func freezeCrossed(h *Host) error {
	if _, err := h.freezes("o"); err != nil {
		return err
	}
	id, want := h.ID(), " crossed the frozen transport cut"
	lease := wire.AppendLease(nil, wire.Lease{Event: wire.LeaseGranted, IDStart: 1, IDEndExclusive: frame.Step, Incarnation: [16]byte{1}})
	return first(
		func() error { return h.Put(id, &wire.Ping{}) },
		func() error {
			return h.refused(id, wire.TypePing, wire.ErrorInvalidSession, "ordinary input"+want, "", "")
		},
		func() error {
			return h.Record(id, wire.Record{Kind: wire.BulkFS, Flow: wire.FlowHostToGuest, Data: []byte("x")})
		},
		func() error { return h.refused(id, "", wire.ErrorInvalidSession, "raw bulk input"+want, "", "") },
		func() error { return h.Raw(0, lease, false) },
		func() error { return h.refused(0, "", wire.ErrorInvalidSession, "relay lease"+want, "", "") },
		func() error { return h.Put(0, &wire.ClockSync{UnixTimeNanos: 1}) },
		func() error {
			return h.refused(0, wire.TypeClockSync, wire.ErrorInvalidSession, "ordinary input"+want, "", "")
		},
		func() error { return h.thaws("o", wire.ThawContinue) },
		func() error { return h.Settle(none) },
	)
}

func thawNothing(h *Host) error {
	if err := h.refuses(&wire.WorkloadThaw{AttemptID: "never", Mode: wire.ThawContinue}, conflict+"no matching workload freeze is active"); err != nil {
		return err
	}
	return h.refuses(&wire.WorkloadThaw{AttemptID: "never", Mode: wire.ThawRestore}, mismatch)
}

// thawOrder checks the order of what a thaw sends.
func thawOrder(h *Host) error {
	id, err := h.starts("while :; do echo x; done")
	if err != nil {
		return err
	}
	if r, err := h.Take(id); err != nil || r.Type != wire.TypeExecStdout {
		return fmt.Errorf("%s, %w", r.Type, err)
	}
	if _, err = h.freezes("t"); err != nil {
		return err
	}
	h.Drop(id, id+1)
	if err := h.Thaw("t", wire.ThawContinue); err != nil {
		return err
	}
	credit, err := h.Take(wire.WorkloadID)
	if err != nil {
		return err
	}
	if c, ok := credit.Message.(*wire.WorkloadTransportCredit); !ok || c.TransportCounters != h.Limit(none) {
		return fmt.Errorf("first %s %+v, want credit %+v", credit.Type, credit.Message, h.Limit(none))
	}
	h.last = nil
	at, err := h.thawed("t")
	if err != nil {
		return err
	}
	output, err := h.Take(id)
	if err != nil {
		return err
	}
	if credit.Nr+1 != at || output.Nr <= at {
		return fmt.Errorf("credit is frame %d, the answer %d, output %d", credit.Nr, at, output.Nr)
	}
	return h.ends(id)
}

func thawRepeats(h *Host) error {
	for range 2 { // The same attempt can be frozen again.
		if _, err := h.freezes("again"); err != nil {
			return err
		}
		for range 3 {
			if err := h.thaws("again", wire.ThawContinue); err != nil {
				return err
			}
		}
		if err := h.refuses(&wire.WorkloadThaw{AttemptID: "again", Mode: wire.ThawRestore}, mismatch); err != nil {
			return err
		}
		if err := h.refuses(&wire.WorkloadThaw{AttemptID: "other", Mode: wire.ThawContinue}, conflict+"no matching workload freeze is active"); err != nil {
			return err
		}
	}
	return nil
}

// thawRestore detaches everything from the host.
func thawRestore(h *Host) error {
	id, err := h.starts("cat >/tmp/input; echo over >>/tmp/input; yes | head -c 3000000 >&2; echo done >/tmp/done")
	if err != nil {
		return err
	}
	handle, err := h.open("/tmp/restored")
	if err != nil {
		return err
	}
	tell := &wire.ExecStdin{Data: []byte("words\n")}
	err = first(
		func() error { return h.Put(id, tell) },
		func() error { return h.Settle(none) },
		func() error { _, err := h.freezes("rs"); return err },
		func() error { return h.thaws("rs", wire.ThawRestore) },
		func() error { return h.thaws("rs", wire.ThawRestore) },
		func() error { return h.thaws("rs", wire.ThawContinue) },       // A repeat may say either.
		func() error { return h.Put(id, &wire.ExecSignal{Signal: 9}) }, // For nobody.
		func() error {
			return h.says("while ! [ -e /tmp/done ]; do sleep 0.05; done; cat /tmp/input; rm /tmp/done /tmp/input", "words\nover\n")
		},
	)
	if err != nil {
		return err
	}
	if h.waits(id) {
		return errors.New("a detached command has said something")
	}
	read, one := h.ID(), uint64(1)
	if err := h.Put(read, &wire.FSRequest{Op: &wire.OpRead{Handle: handle, Len: &one}}); err != nil {
		return err
	}
	r, err := h.Take(read)
	if m, ok := r.Message.(*wire.FSResponse); err != nil || !ok || m.OK || m.Error == nil || !strings.HasPrefix(*m.Error, "read: invalid handle") {
		return fmt.Errorf("a handle of before: %+v, %w", r.Message, err)
	}
	if err := h.Put(id, Shell("echo free")); err != nil { // The old id is free.
		return err
	}
	if r, err := h.Take(id); err != nil || r.Type != wire.TypeExecStarted {
		return fmt.Errorf("%s, %w", r.Type, err)
	}
	return h.outputs(id, "free\n")
}

// totalsGoOn freezes and thaws in both modes beside traffic of both classes.
func totalsGoOn(h *Host) error {
	for i, mode := range []wire.ThawMode{wire.ThawContinue, wire.ThawRestore, wire.ThawContinue} {
		if err := inputRead(h); err != nil {
			return err
		}
		name := "total" + strconv.Itoa(i)
		m, err := h.freezes(name)
		if err != nil {
			return err
		}
		if m.InputCredit != h.Limit(none) {
			return fmt.Errorf("%+v, want %+v", m.InputCredit, h.Limit(none))
		}
		if err := h.thaws(name, mode); err != nil {
			return err
		}
	}
	return nil
}
