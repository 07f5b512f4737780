package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/agentd-go/agentd/internal/vmm"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

const (
	// guestFile is the file in Config.Survive with a heir.
	guestFile = "guest.json"

	// greetTries is how often a new host opens the port, and greetWait how long the guest may
	// take to answer each time. It answers at once, unless its host's processors are busy.
	greetTries = 3
	greetWait  = 10 * time.Second
)

// A heir is what the next host process must know of a machine, besides what package vmm
// keeps.
type heir struct {
	Config   Config `json:"config"`
	Link     link   `json:"link"`
	Files    string `json:"files"`
	Note     string `json:"note"`
	Unshared string `json:"unshared,omitempty"`
	RootFile string `json:"root_file,omitempty"`
}

// An AdoptConfig is the part of a machine's configuration that belongs to the host process.
// Its fields are those of [Config].
type AdoptConfig struct {
	Socket      string
	ConsoleFile string
	Console     io.Writer
	Log         func(line string)
}

// checkSurvive refuses what cannot outlive this process.
func (c Config) checkSurvive() error {
	if c.Survive == "" {
		return nil
	}
	for _, obstacle := range []struct {
		there bool
		what  string
	}{
		{c.Socket == "", "without Socket it serves only the process that started it"},
		{c.Files == "", "without Files its files are removed with the process that started it"},
		{c.PortSocket != "", "its port has a socket of its own (PortSocket)"},
		{len(c.Taps) > 0, "its network cards are interfaces that end with the process that started it (Taps)"},
		{c.Warm == WarmTry, "a machine from a template does not know that its host may come back (Warm)"},
	} {
		if obstacle.there {
			return fmt.Errorf("survive: %s", obstacle.what)
		}
	}
	return nil
}

// bequeath writes what the next host process must know.
func (m *Machine) bequeath(cfg Config) error {
	if cfg.Survive == "" {
		return nil
	}
	h := heir{
		Config: cfg, Link: m.saving.link, Files: m.layout.dir, Note: m.layout.note, RootFile: m.layout.rootFile,
	}
	if m.layout.unshared != nil {
		h.Unshared = m.layout.unshared.Error()
	}
	b, err := json.Marshal(h)
	if err != nil {
		return err
	}
	path := filepath.Join(cfg.Survive, guestFile)
	if err := os.WriteFile(path+".new", b, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// disinherit removes what bequeath has written.
func (m *Machine) disinherit() error {
	if m.survive == "" {
		return nil
	}
	return os.RemoveAll(filepath.Join(m.survive, guestFile))
}

// LeftRunning reports whether a machine whose Config.Survive was dir runs, or a part of it.
// That is also true while its first process lives: a lock is the caller's matter.
func LeftRunning(dir string) bool {
	l, err := vmm.ReadLeft(dir)
	return err == nil && l.Runs()
}

// EndLeft ends a machine whose Config.Survive was dir like a power cut, without adopting it.
// It returns nil if there is none.
func EndLeft(dir string) error {
	l, err := vmm.ReadLeft(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = l.End(dir)
	}
	return errors.Join(err, os.RemoveAll(filepath.Join(dir, guestFile)))
}

// Adopt takes over a machine whose Config.Survive was dir, after the process that started it
// has ended. Its kept commands go on, and so do its other commands, whose output is dropped
// from then on: their clients have lost them. Open files and connections of clients are
// closed. After an error the machine goes on without a host, and Adopt may be called again.
// The caller makes sure that only one process adopts a machine.
func Adopt(ctx context.Context, dir string, cfg AdoptConfig) (_ *Machine, err error) {
	var h heir
	b, err := os.ReadFile(filepath.Join(dir, guestFile))
	if err == nil {
		err = json.Unmarshal(b, &h)
	}
	if err != nil {
		return nil, fmt.Errorf("the machine was not ready: %w", err)
	}
	vm, err := vmm.Adopt(ctx, dir, vmm.Options{Console: cfg.Console, ConsoleFile: cfg.ConsoleFile})
	if err != nil {
		return nil, err
	}
	left, err := vmm.ReadLeft(dir)
	if err != nil {
		vm.Abandon()
		return nil, err
	}
	m := &Machine{vm: vm, layout: h.layout(left.Machine), survive: dir}
	m.spoke.Store(true)
	m.saving.config, m.saving.link = h.Config, h.Link
	if err := m.greetAgain(ctx, cfg, h.Link); err != nil {
		if m.relay != nil {
			_ = m.relay.Close()
		}
		vm.Abandon()
		return nil, err
	}
	return m, nil
}

func (h *heir) layout(machine vmm.Machine) *layout {
	l := &layout{
		dir: h.Files, kept: true, machine: machine, note: h.Note, rootFile: h.RootFile,
		shareless: len(machine.Shares) == 0, cold: errAdopted,
	}
	if h.Unshared != "" {
		l.unshared = errors.New(h.Unshared)
	}
	return l
}

var errAdopted = errors.New("it was adopted")

// greetAgain opens the agent's port and serves clients.
func (m *Machine) greetAgain(ctx context.Context, cfg AdoptConfig, l link) error {
	h, err := l.handshake()
	if err != nil {
		return err
	}
	h.machine = m
	if h.Link, err = m.reopen(ctx, h); err != nil {
		return err
	}
	if err := m.relayTo(Config{Socket: cfg.Socket, Log: cfg.Log}, h, func() error { return nil }); err != nil {
		return err
	}
	m.loops.Go(func() { keepTime(m.vm.Done(), m.starved, m.tellTime) })
	return nil
}

// reopen opens the port until the guest answers. A guest that had not noticed the end of the
// last host may take the first words for the rest of the last host's: then the port is closed
// again.
func (m *Machine) reopen(ctx context.Context, h *handshake) (conn net.Conn, err error) {
	for range greetTries {
		if conn, err = m.vm.OpenPort(ctx); err != nil {
			return nil, err
		}
		if conn, err = greetGuest(ctx, conn, h); err == nil || ctx.Err() != nil {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("the guest does not answer: %w", err)
	}
	return conn, nil
}

// greetGuest says that all clients of the last host have gone, and waits for an answer that
// the guest gives after that. What comes before is the last host's.
func greetGuest(ctx context.Context, conn net.Conn, h *handshake) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, greetWait)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })
	defer stop()
	_, end := frame.SlotRange(0)
	probe := end - 1 // No client has used it so far.
	hello := encode(0, &wire.ClientDisconnected{IDStart: 0, IDEndExclusive: math.MaxUint32})
	if _, err := conn.Write(append(hello, words(h.Generation, false, false).Probe(probe)...)); err != nil {
		return nil, err
	}
	frames := frame.NewReader(conn)
	for {
		f, err := frames.Next()
		if err != nil {
			return nil, err
		}
		if f.ID == probe {
			break
		}
	}
	if !stop() {
		return nil, context.Cause(ctx)
	}
	return &readAhead{Conn: conn, early: io.MultiReader(bytes.NewReader(frames.Buffered()), conn)}, nil
}

// A readAhead is a link of which some bytes have been read already.
type readAhead struct {
	net.Conn

	early io.Reader
}

func (r *readAhead) Read(b []byte) (int, error) { return r.early.Read(b) }
