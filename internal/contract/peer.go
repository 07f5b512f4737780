package contract

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

// A Peer is one client that sends raw frames.
type Peer struct {
	*Link

	Ctx  context.Context //nolint:containedctx // Bounds everything that the behaviour does.
	slot int
}

// Peer returns the client of a slot, for as long as ctx.
func (l *Link) Peer(ctx context.Context, slot int) *Peer { return &Peer{Link: l, Ctx: ctx, slot: slot} }

// Other returns the client of the next slot.
func (p *Peer) Other() *Peer { return p.Peer(p.Ctx, p.slot+1) }

// ID is the id of the peer's session n.
func (p *Peer) ID(n uint32) uint32 {
	start, _ := frame.SlotRange(p.slot)
	return start + n
}

// Frame is a message of session n as bytes.
func (p *Peer) Frame(n uint32, m wire.Message) ([]byte, error) {
	return wire.AppendFrame(nil, speaks, p.ID(n), m)
}

// Send sends messages on session n, in one write.
func (p *Peer) Send(n uint32, all ...wire.Message) error {
	var b []byte
	for _, m := range all {
		var err error
		if b, err = wire.AppendFrame(b, speaks, p.ID(n), m); err != nil {
			return err
		}
	}
	return p.Write(b, p.ID(n))
}

// Control sends a message on id 0.
func (p *Peer) Control(m wire.Message) error {
	b, err := wire.AppendFrame(nil, speaks, 0, m)
	if err != nil {
		return err
	}
	return p.Write(b, 0)
}

// Hear returns the next frame of session n.
func (p *Peer) Hear(n uint32) (Received, error) { return p.Next(p.Ctx, p.ID(n)) }

// Left returns how many frames of session n wait to be taken.
func (p *Peer) Left(n uint32) int { return p.Kept(p.ID(n), p.ID(n)+1) }

// roundSession is the session of a peer's pings.
const roundSession = 0xffff

// Round waits until the agent has read all that was sent: it answers something
// after it. It returns how long that took. A machine that is asked by ping does
// not see it as activity; an agent of a generation without pings is asked by a
// file operation.
func (p *Peer) Round() (time.Duration, error) {
	start := time.Now()
	var question wire.Message = &wire.Ping{}
	if p.Generation() < 6 {
		question = &wire.FSRequest{Op: &wire.OpStat{Path: "/"}}
	}
	if err := p.Send(roundSession, question); err != nil {
		return 0, err
	}
	_, err := p.Hear(roundSession)
	return time.Since(start), err
}

// Generation returns the agent's generation, or 0 before its first frame.
func (l *Link) Generation() wire.Generation {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.generation
}

// Leave tells the agent that the peer has gone, as a relay does.
func (p *Peer) Leave() error {
	start, end := frame.SlotRange(p.slot)
	return p.Control(&wire.ClientDisconnected{IDStart: start, IDEndExclusive: end})
}

// All is the range of the peer's ids.
func (p *Peer) All() (start, end uint32) { return frame.SlotRange(p.slot) }

// Shell is the request for a script.
func Shell(script string) *wire.ExecRequest {
	return &wire.ExecRequest{Cmd: "/bin/sh", Args: []string{"-c", script}, Rows: 24, Cols: 80}
}

// A Result is the result of one command.
type Result struct {
	Stdout, Stderr []byte
	StdinErrors    []*wire.ExecStdinError
	Code           int32
	Failed         *wire.ExecFailed
}

// Collect takes the frames of a command up to the terminal one. Started is first
// unless it was taken before.
func (p *Peer) Collect(n uint32) (r Result, err error) {
	for {
		f, err := p.Hear(n)
		if err != nil {
			return r, err
		}
		switch m := f.Message.(type) {
		case *wire.ExecStarted:
			if len(r.Stdout)+len(r.Stderr) > 0 {
				return r, errors.New("started after output")
			}
		case *wire.ExecStdout:
			r.Stdout = append(r.Stdout, m.Data...)
		case *wire.ExecStderr:
			r.Stderr = append(r.Stderr, m.Data...)
		case *wire.ExecStdinError:
			r.StdinErrors = append(r.StdinErrors, m)
		case *wire.ExecExited:
			r.Code = m.Code
			return r, nil
		case *wire.ExecFailed:
			r.Failed = m
			return r, nil
		default:
			return r, fmt.Errorf("%s among a command's frames", f.Type)
		}
	}
}

// saySession is the session of a peer's own scripts.
const saySession = 0xfffe

// Say runs a script that must succeed, and returns its output.
func (p *Peer) Say(script string) (string, error) {
	if err := p.Send(saySession, Shell(script)); err != nil {
		return "", err
	}
	r, err := p.Collect(saySession)
	switch {
	case err != nil:
		return "", err
	case r.Failed != nil:
		return "", fmt.Errorf("%q: %s", script, r.Failed.Message)
	case r.Code != 0:
		return "", fmt.Errorf("%q: code %d: %s", script, r.Code, r.Stderr)
	}
	return string(r.Stdout), nil
}

// fileSession is the session of a peer's own file operations.
const fileSession = 0xfffd

// File does a file operation and says how it ended: the error, or the data and
// the result in short.
func (p *Peer) File(op wire.FSOp) (string, error) {
	if err := p.Send(fileSession, &wire.FSRequest{Op: op}); err != nil {
		return "", err
	}
	data, r, err := p.Response(fileSession)
	if err != nil {
		return "", err
	}
	return string(data) + Outcome(r), nil
}

// Response is the end of a file operation, after the data that it sent.
func (p *Peer) Response(n uint32) (data []byte, r *wire.FSResponse, err error) {
	for {
		f, err := p.Hear(n)
		if err != nil {
			return data, nil, err
		}
		switch m := f.Message.(type) {
		case *wire.FSData:
			if len(m.Data) == 0 {
				return data, nil, errors.New("an empty piece of a file")
			}
			data = append(data, m.Data...)
		case *wire.FSResponse:
			return data, m, nil
		default:
			return data, nil, fmt.Errorf("%s among a file's frames", f.Type)
		}
	}
}

// Outcome is a response in short.
func Outcome(r *wire.FSResponse) string {
	if !r.OK {
		if r.Error == nil {
			return "not ok, and no error"
		}
		return *r.Error
	}
	switch d := r.Data.(type) {
	case *wire.ResultPath:
		return d.Path
	case *wire.ResultHandle:
		return "handle"
	case *wire.ResultStat:
		return brief(&d.Entry)
	case *wire.ResultList:
		names := make([]string, len(d.Entries))
		for i := range d.Entries {
			names[i] = d.Entries[i].Path
		}
		return "[" + strings.Join(names, " ") + "]"
	}
	return "ok"
}

// brief leaves out the times, and the size of a directory, which is its file
// system's affair.
func brief(e *wire.FSEntry) string {
	size := fmt.Sprintf(" %d", e.Size)
	if e.Kind == wire.EntryDir {
		size = ""
	}
	return fmt.Sprintf("%s %s%s %o %d:%d", e.Path, e.Kind, size, e.Mode, e.UID, e.GID)
}

// Open opens a file or directory and returns its handle.
func (p *Peer) Open(op wire.FSOp) (uint64, error) {
	if err := p.Send(fileSession, &wire.FSRequest{Op: op}); err != nil {
		return 0, err
	}
	_, r, err := p.Response(fileSession)
	if err != nil {
		return 0, err
	}
	d, ok := r.Data.(*wire.ResultHandle)
	if !ok {
		return 0, fmt.Errorf("%s: %s", describe(op), Outcome(r))
	}
	return d.Handle, nil
}

// OpenFile is Open for a file.
func (p *Peer) OpenFile(path string, o wire.OpenOptions) (uint64, error) {
	return p.Open(&wire.OpOpenFile{Path: path, Options: o})
}

// Put writes data by one Write, in pieces of a size, and says how it ended.
func (p *Peer) Put(n uint32, op *wire.OpWrite, data []byte, piece int) (string, error) {
	err := p.Send(n, &wire.FSRequest{Op: op})
	for b := data; len(b) > 0 && err == nil; b = b[min(piece, len(b)):] {
		err = p.Send(n, &wire.FSData{Data: b[:min(piece, len(b))]})
	}
	if err == nil {
		err = p.Send(n, &wire.FSData{Data: []byte{}})
	}
	if err != nil {
		return "", err
	}
	_, r, err := p.Response(n)
	if err != nil {
		return "", err
	}
	return Outcome(r), nil
}

// describe is an operation in words that fit a test's name.
func describe(op wire.FSOp) string {
	const most = 70
	text := strings.TrimPrefix(fmt.Sprintf("%T", op), "*wire.Op")
	if b, err := json.Marshal(op); err == nil {
		text += " " + strings.Trim(strings.ReplaceAll(string(b), `"`, ""), "{}")
	}
	if len(text) > most {
		text = text[:most] + "…"
	}
	return text
}
