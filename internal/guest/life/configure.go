package life

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"time"

	"github.com/agentd-go/agentd/internal/guest/agent"
	"github.com/agentd-go/agentd/internal/guest/boot"
	"github.com/agentd-go/agentd/internal/guest/plan"
	"github.com/agentd-go/agentd/internal/guest/session/exec"
	"github.com/agentd-go/agentd/internal/guest/sys"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/bootenv"
)

func parseDebug(list string) map[string]bool {
	all := map[string]bool{}
	for word := range strings.SplitSeq(list, ",") {
		all[word] = true
	}
	return all
}

// configure opens the port and makes the plan: from the environment if that has any of the
// boot's variables, else from the first message on the port. Never from both.
func (l *Life) configure() (err error) {
	told := plan.Configured(os.Environ())
	if told {
		if l.plan, err = plan.FromEnvironment(os.Environ()); err != nil {
			return bootenv.ConfigParse.Wrap(err)
		}
	}
	if err := boot.EarlyMounts(); err != nil {
		return bootenv.EarlyInit.Wrap(err)
	}
	if err := l.listen(); err != nil {
		return bootenv.ConsoleOpen.Wrap(err)
	}
	if !told {
		if err := l.receive(); err != nil {
			return err
		}
	}
	if l.debug["plan"] {
		sys.Logf("plan\n%s", l.plan)
	}
	return bootenv.ConfigParse.Wrap(boot.Check(l.plan))
}

// receive takes the configuration from the port.
func (l *Life) receive() error {
	b, err := l.agent.Bootstrap()
	if err != nil {
		return bootenv.BootstrapReceive.Wrap(err)
	}
	if b.Fresh != nil {
		if err := freshen(b.Fresh); err != nil {
			return bootenv.BootstrapReceive.Wrap(fmt.Errorf("fresh: %w", err))
		}
		l.fresh = true
	}
	if l.plan, err = plan.FromBootstrap(b, os.Environ()); err != nil {
		return bootenv.BootstrapValidation.Wrap(err)
	}
	l.plan.Generation, l.stored = l.agent.Speaks(), b.StoredCredit
	return nil
}

// freshen makes the guest differ from all others that began with the same memory. Random
// numbers drawn before it are known to the others. So it comes first in the boot, and its
// failure ends the boot.
func freshen(f *wire.Fresh) error {
	if f.UnixTimeNanos > math.MaxInt64 {
		return fmt.Errorf("unix_time_nanos %d: want at most %d", f.UnixTimeNanos, int64(math.MaxInt64))
	}
	if err := sys.Reseed(&f.Entropy); err != nil {
		return err
	}
	if err := sys.SetTime(time.Unix(0, int64(f.UnixTimeNanos))); err != nil {
		return err
	}
	for _, device := range f.Disks {
		if err := sys.ProbeDisk(device); err != nil {
			return err
		}
	}
	return nil
}

// listen waits for the port and opens it.
func (l *Life) listen() error {
	var err error
	if l.port, err = l.Open(portName, time.Now().Add(portDeadline)); err != nil {
		return err
	}
	l.port.Patient.Store(true) // The host may connect later than we open.
	l.agent = agent.Open(l.port)
	return nil
}

// openPort waits for a virtio port and opens it.
func (l *Life) openPort(name string, deadline time.Time) (*sys.Port, error) {
	device, err := l.waitPort(name, deadline)
	if err != nil {
		return nil, err
	}
	return sys.OpenPort(device)
}

// waitPort finds a port. In most cases the port is there, and no timer is made. A timer is
// made only after the machine's clock has been checked.
func (l *Life) waitPort(name string, deadline time.Time) (string, error) {
	device, err := sys.FindPort(name)
	if err == nil {
		return device, nil
	}
	if err := l.proveClock(); err != nil {
		return "", err
	}
	late := time.NewTimer(time.Until(deadline))
	defer late.Stop()
	tick := time.NewTicker(portInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-late.C:
			return "", err
		}
		if device, err = sys.FindPort(name); err == nil {
			return device, nil
		}
	}
}

// bringUp carries the plan out.
func (l *Life) bringUp() (err error) {
	start := sys.BootTime()
	l.machine, err = boot.Up(l.plan, l.greet)
	l.init = sys.BootTime() - start
	if l.debug["boot"] {
		for _, t := range l.machine.Timings {
			sys.Logf("step %s took %v", t.Step, t.Took)
		}
	}
	return err
}

// greet is the handshake. It comes in the middle of the boot: the root is final, and none
// of the user's mounts is made yet.
func (l *Life) greet(user string) error {
	var who plan.Credential // A blank spec means root's ids, whatever the files say.
	if strings.TrimSpace(user) != "" {
		var err error
		if who, err = exec.LookUpAccount(user); err != nil {
			return err
		}
	}
	return l.agent.Greet(l.plan.Generation, who.UID, who.GID)
}

// reportFailure sends the host why the boot failed, if the port is open, and returns
// why.
func (l *Life) reportFailure(why error) error {
	if l.agent == nil {
		return why
	}
	failure := wire.InitUnknown
	switch {
	case errors.Is(why, plan.ErrUserNotFound):
		failure = wire.InitUserNotFound
	case errors.Is(why, plan.ErrGroupNotFound):
		failure = wire.InitGroupNotFound
	}
	if err := l.agent.Fail(failure, why.Error()); err != nil {
		sys.Logf("%v", err)
	}
	return why
}
