package proc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"github.com/agentd-go/agentd/internal/guest/sys"
)

// SecondName is argv[0] of the second agent, which goes on when PID 1 becomes another
// program.
const SecondName = "agentd-second"

// The second agent's descriptors after the standard ones: its link to PID 1,
// and then the files that it inherits.
const (
	linkFD    = 3
	FirstFile = linkFD + 1
)

const (
	// chargeDeadline bounds the start of the second agent until it says that it is in
	// charge. It takes some 20 ms, ten times that in emulation, and far more on a busy host.
	chargeDeadline = 20 * time.Second

	// maxState bounds the state for the second agent: a configuration and the input that
	// was read ahead, of one frame (4 MiB) each.
	maxState = 16 << 20
)

// The stages of a handover, beside those of any start.
const (
	StageSecond  Stage = "start of the second agent"
	StageCharge  Stage = "word of the second agent"
	StageSignals Stage = "signals"
)

// An Init is what PID 1 becomes. Its Path is not searched for.
type Init struct {
	Path      string
	Argv, Env []string
	Dir       string  // "" stays in the directory of PID 1.
	Limits    []Limit // Beside those that PID 1 has.
}

// HandOver starts a second agent with the state and the files, waits until it says that
// it is in charge, and makes this process the init. It returns only on failure, with a
// *StartError. The second agent serves no host then and ends with the machine.
func HandOver(init *Init, state []byte, files []uintptr) error {
	link, err := startSecond(files)
	if err != nil {
		return &StartError{StageSecond, SecondName, err}
	}
	if err := passCharge(link, state); err != nil {
		return &StartError{StageCharge, SecondName, err}
	}
	err = init.become()
	runtime.KeepAlive(link) // Its end by the execution tells the second agent.
	return err
}

// startSecond starts the second agent in a session of its own.
func startSecond(files []uintptr) (*os.File, error) {
	ours, theirs, err := sys.SocketPair()
	if err != nil {
		return nil, err
	}
	defer func() { _ = theirs.Close() }() // The second agent has its own.
	_, err = syscall.ForkExec("/proc/self/exe", []string{SecondName}, &syscall.ProcAttr{
		Env:   []string{}, // Other processes could read the configuration there.
		Files: append([]uintptr{0, 1, 2, theirs.Fd()}, files...),
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	return ours, err
}

// passCharge sends the second agent the state and waits until it is in charge.
func passCharge(link *os.File, state []byte) error {
	if len(state) > maxState {
		return fmt.Errorf("a state of %d bytes: want at most %d", len(state), maxState)
	}
	if err := link.SetDeadline(time.Now().Add(chargeDeadline)); err != nil {
		return err
	}
	message := binary.BigEndian.AppendUint32(nil, uint32(len(state)))
	if _, err := link.Write(append(message, state...)); err != nil {
		return err
	}
	_, err := io.ReadFull(link, make([]byte, 1))
	if errors.Is(err, io.EOF) {
		return errors.New("it ended before")
	}
	return err
}

// become makes this process the init.
func (i *Init) become() error {
	runtime.LockOSThread() // The mask is the thread's, and so is what follows.
	if err := sys.Pristine(); err != nil {
		return &StartError{StageSignals, i.Path, err}
	}
	if i.Dir != "" {
		if err := sys.Chdir(i.Dir); err != nil {
			return &StartError{StageDirectory, i.Dir, err}
		}
	}
	for _, l := range i.Limits {
		if err := sys.SetLimit(l.Resource, l.Soft, l.Hard); err != nil {
			return &StartError{StageLimits, strconv.Itoa(l.Resource), err}
		}
	}
	return &StartError{StageExec, i.Path, sys.Exec(i.Path, i.Argv, i.Env)}
}

// An Inheritance has the state that the second agent was given; its files are open from
// FirstFile on.
type Inheritance struct {
	State []byte
	link  *os.File
}

// Inherit receives the state from PID 1. It needs no deadline: PID 1 has one, and closes
// the link when it gives up.
func Inherit() (*Inheritance, error) {
	if err := sys.SealDescriptors(); err != nil {
		return nil, err
	}
	link := os.NewFile(linkFD, "link to PID 1")
	var head [4]byte
	if _, err := io.ReadFull(link, head[:]); err != nil {
		return nil, fmt.Errorf("read the state: %w", err)
	}
	size := binary.BigEndian.Uint32(head[:])
	if size > maxState {
		return nil, fmt.Errorf("a state of %d bytes: want at most %d", size, maxState)
	}
	state := make([]byte, size)
	if _, err := io.ReadFull(link, state); err != nil {
		return nil, fmt.Errorf("read the state: %w", err)
	}
	return &Inheritance{State: state, link: link}, nil
}

// TakeCharge tells PID 1 that this process is in charge, and waits until PID 1
// has become the init: its end of the link closes by the execution.
func (i *Inheritance) TakeCharge() error {
	defer func() { _ = i.link.Close() }()
	if _, err := i.link.Write([]byte{1}); err != nil {
		return err
	}
	if _, err := i.link.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		return fmt.Errorf("PID 1 has not become the init: %w", err)
	}
	return nil
}
