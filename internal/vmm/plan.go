package vmm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// QEMU's inherited descriptors, in the order in which launch opens the links
// (exec.Cmd.ExtraFiles).
const (
	fdAgent = 3 + iota
	fdConsole
	fdQMP
	fdShares // the first share; the others follow, then the second port, the taps, memory and state
)

// fdListen is virtiofsd's descriptor of its listening socket.
const fdListen = 3

// tools are the programs of one machine.
type tools struct {
	qemu string
	Sharing
}

// Sharing holds the way in which this host shares directories with machines.
type Sharing struct {
	daemon daemon
	host   hostFacts
}

// A plan holds all commands of one machine, before anything is started.
type plan struct {
	program string
	qemu    []string
	shares  [][]string // one virtiofsd each
	tags    []string
	second  bool // there is a second port

	// stateFD is the descriptor of the state that QEMU reads or writes.
	stateFD int
	hand    string // the same as a shell script
}

// prepare makes the plan. It reads the host's state and changes nothing.
func prepare(ctx context.Context, m Machine, o Options) (plan, error) {
	if m.Accel == KVM && m.Architecture.orHost() != HostArchitecture {
		return plan{}, fmt.Errorf("machine: accelerator kvm: it runs machines for %s here, not for %s", HostArchitecture, m.Architecture)
	}
	if err := m.checkFiles(); err != nil {
		return plan{}, err
	}
	t, err := findTools(ctx, m, o)
	if err != nil {
		return plan{}, err
	}
	return newPlan(m, t, o)
}

// Script returns shell lines for the machine, as [VM.Command] does, without starting
// it. It looks for programs and files on the host.
func (m Machine) Script(ctx context.Context, o Options) (string, error) {
	if err := m.Check(); err != nil {
		return "", fmt.Errorf("machine: %w", err)
	}
	m = m.resolve()
	p, err := prepare(ctx, m, o)
	return p.hand, err
}

// checkFiles finds missing files before QEMU does. QEMU reports one at a time, and a
// missing share only by the end of a virtiofsd.
func (m Machine) checkFiles() error {
	var errs []error
	files := []string{m.Kernel}
	if m.Initrd != "" {
		files = append(files, m.Initrd)
	}
	for _, d := range m.Disks {
		if !d.placeholder {
			files = append(files, d.Path)
		}
	}
	for _, f := range files {
		_, err := os.Stat(f)
		errs = append(errs, err)
	}
	for _, s := range m.Shares {
		info, err := os.Stat(s.Dir)
		if err == nil && !info.IsDir() {
			err = fmt.Errorf("share %s: %s is not a directory", s.Tag, s.Dir)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func findTools(ctx context.Context, m Machine, o Options) (t tools, err error) {
	if t.qemu, err = orFind(o.QEMU, func() (string, error) { return FindQEMU(m.Architecture) }); err != nil || len(m.Shares) == 0 {
		return t, err
	}
	if o.Sharing != nil {
		t.Sharing = *o.Sharing
		return t, nil
	}
	t.Sharing, err = findDaemon(ctx, o)
	return t, err
}

func findDaemon(ctx context.Context, o Options) (s Sharing, err error) {
	path, err := orFind(o.Virtiofsd, FindVirtiofsd)
	if err != nil {
		return s, err
	}
	if s.daemon, err = identifyDaemon(ctx, path); err != nil {
		return s, err
	}
	s.host, err = readHost(ctx)
	return s, err
}

// FindSharing finds out how this host shares directories with machines. Its error says
// why the host cannot, and how to fix that if possible. It changes nothing.
func FindSharing(ctx context.Context, o Options) (*Sharing, error) {
	s, err := findDaemon(ctx, o)
	if err == nil {
		_, err = s.daemon.sandbox(s.host)
	}
	if err != nil {
		return nil, err
	}
	return &s, nil
}

func orFind(given string, find func() (string, error)) (string, error) {
	if given != "" {
		return given, nil
	}
	return find()
}

// newPlan makes the plan. With Options.PortSocket the agent's port accepts connections.
func newPlan(m Machine, t tools, o Options) (plan, error) {
	p := plan{program: t.qemu, second: m.Records}
	var hand [][]string
	for i, s := range m.Shares {
		run, byHand, err := t.share(s, i)
		if err != nil {
			return plan{}, fmt.Errorf("share %s: %w", s.Tag, err)
		}
		p.shares, hand, p.tags = append(p.shares, run), append(hand, byHand), append(p.tags, s.Tag)
	}
	run := inheritedPaths(m)
	if o.PortSocket != "" {
		run.Agent = Accepting(fdAgent)
	}
	if o.Lasting != "" {
		run.Agent, run.Console, run.QMP = Awaiting(fdAgent), Awaiting(fdConsole), Awaiting(fdQMP)
	}
	p.stateFD = o.addMemory(&run, fdShares+m.inherited())
	p.qemu = t.words(m, run)
	byHand := handPaths(len(m.Shares))
	for _, tap := range m.Taps {
		byHand.Taps = append(byHand.Taps, tapByName(tap.Name))
	}
	p.hand = script(t.words(m, byHand), hand)
	return p, nil
}

// share returns the command for share i, and its form for the script.
func (t tools) share(s Share, i int) (run, byHand []string, err error) {
	locked, err := lockedOptions(s.Dir)
	if err != nil {
		return nil, nil, err
	}
	r := shareRun{share: s, locked: locked, listen: "--fd=" + strconv.Itoa(fdListen)}
	if run, err = t.daemon.command(t.host, r); err != nil {
		return nil, nil, err
	}
	r.listen, r.privateRun = "--socket-path="+handSocket("fs"+strconv.Itoa(i)), true
	byHand, err = t.daemon.command(t.host, r)
	return run, byHand, err
}

// words is QEMU's command line.
func (t tools) words(m Machine, run RuntimePaths) []string {
	return append(append(bind(m.Affinity), t.qemu), m.QEMUArgs(run)...)
}

// bind uses taskset to set the CPUs, so that the setting is visible in the script.
func bind(cpus []int) []string {
	if len(cpus) == 0 {
		return nil
	}
	list := make([]string, len(cpus))
	for i, cpu := range cpus {
		list[i] = strconv.Itoa(cpu)
	}
	return []string{"taskset", "--cpu-list", strings.Join(list, ",")}
}

// inherited returns the number of descriptors that QEMU inherits in addition to those
// of every machine.
func (m Machine) inherited() int {
	n := len(m.Shares) + len(m.Taps)
	if m.Records {
		n++
	}
	return n
}

func inheritedPaths(m Machine) RuntimePaths {
	run := RuntimePaths{Agent: Inherited(fdAgent), Console: Inherited(fdConsole), QMP: Inherited(fdQMP)}
	for i := range m.Shares {
		run.Shares = append(run.Shares, Inherited(fdShares+i))
	}
	next := fdShares + len(m.Shares)
	if m.Records {
		run.Records = Inherited(next)
		next++
	}
	for i := range m.Taps {
		run.Taps = append(run.Taps, "fd="+strconv.Itoa(next+i))
	}
	return run
}
