package vmm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// startTimeout bounds QEMU's own start, up to its greeting on QMP: 0.1 s on an idle
// host, but a hundred machines may start at once on two cores.
const startTimeout = 30 * time.Second

// undoGrace is the grace period of a virtiofsd that has not served a guest: it has
// nothing to finish.
const undoGrace = 200 * time.Millisecond

// Options are the host's side of a machine: they do not change what the guest sees.
type Options struct {
	QEMU      string // path; "" for FindQEMU
	Virtiofsd string // path; "" for FindVirtiofsd

	// Sharing is the result of FindSharing; nil makes Start call it, which runs
	// virtiofsd.
	Sharing *Sharing

	// ConsoleFile is created or truncated. It receives the beginning of the console
	// while the machine runs (at most 4 MiB), and its last 64 KiB when the machine has
	// ended. "" means none.
	ConsoleFile string

	// PortSocket is the path of a Unix socket for the agent's port. The host can close
	// its connection and dial again. "" means a port with one connection for its whole
	// life.
	PortSocket string

	// Lasting is a directory in which the machine's links are sockets, of mode 0600. QEMU and
	// virtiofsd then outlive this process, and another one can take the machine over by
	// [Adopt]. The machine boots only with a guest whose host may come back. Nobody else may
	// enter the directory. PortSocket is "" then. "" means that the machine ends with this
	// process.
	Lasting string

	// Taps are open descriptors of the interfaces of [Machine.Taps], one for each in
	// their order. QEMU inherits them; the caller closes them.
	Taps []*os.File

	// From starts the machine from a state that [Save] has written, instead of booting
	// it.
	From *Saved

	saving *Saved // See [Save].

	// Console receives every byte of the console, in order, until it returns an error.
	// It must not block, because the guest would wait too.
	Console io.Writer
}

// Start runs the machine; ctx bounds the start alone. When it returns an error nothing
// is left running. The error is an [ExitError] if QEMU was started, and a
// [MissingError] if a program is not installed.
func Start(ctx context.Context, m Machine, o Options) (*VM, error) {
	if err := m.Check(); err != nil {
		return nil, fmt.Errorf("machine: %w", err)
	}
	if len(o.Taps) != len(m.Taps) {
		return nil, fmt.Errorf("machine: %d descriptors for %d taps", len(o.Taps), len(m.Taps))
	}
	if err := o.checkSaved(m); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	m = m.resolve()
	p, err := prepare(ctx, m, o)
	if err != nil {
		return nil, err
	}
	v := &VM{command: p.hand, machine: m, program: p.program, named: o.named(), lasting: o.Lasting, done: make(chan struct{})}
	var u undo
	err = v.hold(m, o, &u)
	if err == nil {
		err = v.launch(ctx, p, o, &u)
	}
	if err == nil && o.From != nil {
		err = v.mon.restore(ctx, m, o.From, p.stateFD)
	}
	if err == nil {
		err = v.remember()
	}
	if err != nil {
		u.run()
		return nil, v.explain(err)
	}
	u.release()
	go v.watch()
	return v, nil
}

// descriptors are files that a child inherits; the parent closes them after that.
type descriptors []*os.File

func (d *descriptors) close() {
	for _, f := range *d {
		_ = f.Close() // The parent has not written to it.
	}
	*d = nil
}

// launch starts the parts in order and pushes an undo for each.
func (v *VM) launch(ctx context.Context, p plan, o Options, u *undo) error {
	var ends descriptors
	defer ends.close()
	v.nursery = newNursery(o.Lasting)
	u.push(v.nursery.stop)
	if o.Lasting != "" {
		removeLasting(o.Lasting) // Of a machine before this one.
		u.push(func() { removeLasting(o.Lasting) })
	}
	control, err := v.openLinks(o, &ends, u)
	if err != nil {
		return err
	}
	for i, words := range p.shares {
		if err = v.startShare("virtiofsd "+p.tags[i], words, &ends, u); err != nil {
			return err
		}
	}
	if p.second {
		if v.records, err = open(socketPair, &ends, u); err != nil {
			return err
		}
	}
	u.push(v.kept.close)
	if err := v.keepEnds(ends, o); err != nil {
		return err
	}
	files := slices.Concat(ends, o.Taps, o.savedFiles())
	v.mon, err = v.startQEMU(ctx, p.qemu, files, control, ends.close)
	if v.mon.process != nil {
		u.push(func() { v.mon.stop(0) })
	}
	return err
}

// startQEMU starts QEMU and connects to its control link. It calls started before the
// handshake, to close QEMU's ends of the links: then QEMU's end ends the link. After an
// error the caller stops the process, if there is one.
func (v *VM) startQEMU(ctx context.Context, words []string, files []*os.File, control net.Conn, started func()) (m monitor, err error) {
	if m.process, err = v.nursery.start("qemu", words, files...); err != nil {
		return m, err
	}
	started()
	if m.qmp, err = newQMP(ctx, control); err != nil {
		return m, m.whyNoGreeting(err)
	}
	return m, nil
}

// openLinks opens all links but the shares', and returns the one for QMP.
func (v *VM) openLinks(o Options, ends *descriptors, u *undo) (control net.Conn, err error) {
	var conns [fdShares - fdAgent]net.Conn
	for i := range conns {
		pair := socketPair
		if path := o.socket(i); path != "" {
			pair = func() (net.Conn, *os.File, error) { return listening(path) }
		}
		if conns[i], err = open(pair, ends, u); err != nil {
			return nil, err
		}
	}
	if v.console, err = newConsole(o); err != nil {
		return nil, err
	}
	// The order of fdAgent and its neighbors.
	v.port, v.terminal, control = conns[0], conns[1], conns[2]
	go v.console.pump(v.terminal)
	u.push(func() { v.console.drain(v.terminal) })
	return control, nil
}

// socket returns the path of the socket for a link, in the order of fdAgent and its
// neighbors; "" is a link without a name.
func (o Options) socket(i int) string {
	switch {
	case o.Lasting != "":
		return filepath.Join(o.Lasting, [...]string{lastingPort, lastingTerminal, lastingQMP}[i])
	case i == 0:
		return o.PortSocket
	}
	return ""
}

// open makes a link; QEMU inherits one end.
func open(pair func() (net.Conn, *os.File, error), ends *descriptors, u *undo) (net.Conn, error) {
	ours, theirs, err := pair()
	if err != nil {
		return nil, err
	}
	*ends = append(*ends, theirs)
	u.push(func() { _ = ours.Close() })
	return ours, nil
}

func (v *VM) startShare(name string, words []string, ends *descriptors, u *undo) error {
	listener, client, err := lifeline()
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	*ends = append(*ends, client)
	h, err := v.nursery.start(name, words, listener)
	if err = errors.Join(err, listener.Close()); h != nil {
		v.helpers = append(v.helpers, h)
		u.push(func() { h.stop(undoGrace) })
	}
	return err
}

// whyNoGreeting returns the error of QEMU's end, if it has ended, instead of the error
// of a link.
func (q monitor) whyNoGreeting(err error) error {
	if q.ended(2*pipeDelay) && q.err != nil {
		return q.err
	}
	return err
}
