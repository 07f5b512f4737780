package exec

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/agentd-go/agentd/internal/guest/session"
	"github.com/agentd-go/agentd/internal/mux"
	"github.com/agentd-go/agentd/wire"
)

const (
	// maxKeptRunning bounds the kept commands that run. Each may hold 128 KiB of output in
	// memory without a budget, and two read buffers.
	maxKeptRunning = 64

	// maxKeptEnded bounds the kept commands that have ended; the one that ended first is
	// forgotten.
	maxKeptEnded = 64

	// keptMemory bounds the output of all kept commands in memory, except for what every
	// ring has (ring.Config).
	keptMemory = 8 << 20

	// keptDisk bounds the output of all kept commands on disk.
	keptDisk = 4 << 30

	// What a request asks for that does not say: a screen or two of output in memory, a
	// long log on disk, a day to look at it.
	usualKeptMemory = 64 << 10
	usualKeptDisk   = 16 << 20
	usualKeptAge    = 24 * time.Hour

	// keptArgs bounds the part of a command's arguments that listings have.
	keptArgs = 1 << 10
)

// keeps has the kept commands by their names.
type keeps struct {
	memory, disk *mux.Budget

	mu     sync.Mutex
	named  map[string]*Kept
	number int // Of the last name that the agent has chosen.
}

// keepError says which field of a request cannot be met.
type keepError struct {
	kind wire.FailureKind
	text string
}

func (e *keepError) Error() string { return e.text }

// checkKeep checks the bounds of a request.
func checkKeep(k *wire.Keep) error {
	switch {
	case k.Name != "" && !isKeptName(k.Name):
		return bad("keep.name %q: want 1 to %d letters, digits, '.', '_' and '-', the first a letter or digit",
			session.Repeated(k.Name), wire.MaxKeptName)
	case k.Memory > wire.MaxKeptMemory:
		return bad("keep.memory %d: want at most %d bytes", k.Memory, wire.MaxKeptMemory)
	case k.Disk != nil && *k.Disk > wire.MaxKeptDisk:
		return bad("keep.disk %d: want at most %d bytes", *k.Disk, wire.MaxKeptDisk)
	case k.AgeSecs > wire.MaxKeptAge:
		return bad("keep.age_secs %d: want at most %d", k.AgeSecs, wire.MaxKeptAge)
	}
	return nil
}

func bad(format string, args ...any) error {
	return &keepError{wire.FailureBadArgs, fmt.Sprintf(format, args...)}
}

func isKeptName(s string) bool {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	return len(s) <= wire.MaxKeptName && strings.Trim(s, letters+"._-") == "" && strings.Contains(letters, s[:1])
}

// add enters a command under its name, or under one that is free.
func (k *keeps) add(c *Kept) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.named == nil {
		k.named = map[string]*Kept{}
		k.memory, k.disk = mux.NewBudget(keptMemory), mux.NewBudget(keptDisk)
	}
	switch {
	case c.name == "":
		c.name = k.freeLocked()
	case k.named[c.name] != nil:
		return &keepError{wire.FailureOther, "keep.name " + c.name + ": there is a kept command of this name; release it first"}
	}
	if k.runningLocked() >= maxKeptRunning {
		return &keepError{wire.FailureResourceLimit, fmt.Sprintf("%d kept commands run already", maxKeptRunning)}
	}
	k.named[c.name] = c
	return nil
}

func (k *keeps) freeLocked() string {
	for {
		k.number++
		if name := "c" + strconv.Itoa(k.number); k.named[name] == nil {
			return name
		}
	}
}

func (k *keeps) runningLocked() (n int) {
	for _, c := range k.named {
		if !c.hasEnded() {
			n++
		}
	}
	return n
}

// get returns a command, or nil.
func (k *keeps) get(name string) *Kept {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.named[name]
}

// drop forgets a command, if the name is still its own.
func (k *keeps) drop(c *Kept) {
	k.unname(c)
	c.forget()
}

func (k *keeps) unname(c *Kept) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.named[c.name] == c {
		delete(k.named, c.name)
	}
}

// crowd returns the commands that have ended and are too many.
func (k *keeps) crowd() []*Kept {
	var ended []*Kept
	for _, c := range k.all() {
		if c.hasEnded() {
			ended = append(ended, c)
		}
	}
	slices.SortFunc(ended, func(a, b *Kept) int { return a.endTime().Compare(b.endTime()) })
	return ended[:max(0, len(ended)-maxKeptEnded)]
}

// all returns the commands by the time of their start.
func (k *keeps) all() []*Kept {
	k.mu.Lock()
	defer k.mu.Unlock()
	list := make([]*Kept, 0, len(k.named))
	for _, c := range k.named {
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b *Kept) int {
		return cmp.Or(a.started.Compare(b.started), strings.Compare(a.name, b.name))
	})
	return list
}

// Find returns a kept command, or nil.
func (r *Runner) Find(name string) *Kept { return r.keeps.get(name) }

// List describes the kept commands.
func (r *Runner) List() *wire.KeptListed {
	m := new(wire.KeptListed)
	for _, c := range r.keeps.all() {
		m.Commands = append(m.Commands, c.describe())
	}
	return m
}

// Release forgets a kept command that has ended.
func (r *Runner) Release(name string) *wire.KeptReleased {
	c := r.keeps.get(name)
	switch {
	case c == nil:
		return &wire.KeptReleased{Refusal: wire.KeptUnknown}
	case !c.hasEnded():
		return &wire.KeptReleased{Refusal: wire.KeptRunning}
	}
	r.keeps.unname(c)
	r.Host.Go(c.forget) // It may wait for the disk.
	return new(wire.KeptReleased)
}

// listed returns the first arguments of a request: what a listing shows.
func listed(req *wire.ExecRequest) []string {
	args, room := make([]string, 0, 1+len(req.Args)), keptArgs
	for _, a := range append([]string{req.Cmd}, req.Args...) {
		if len(a) > room {
			return append(args, wire.ValidText(a[:room])+"…")
		}
		args, room = append(args, strings.Clone(a)), room-len(a)-1
		if room < 0 {
			return append(args, "…")
		}
	}
	return args
}
