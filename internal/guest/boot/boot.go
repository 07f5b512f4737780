package boot

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/agentd-go/agentd/internal/guest/plan"
	"github.com/agentd-go/agentd/internal/guest/sys"
)

// A StepError says which step ended a boot, and why.
type StepError struct {
	Step plan.Step
	Err  error
}

func (e *StepError) Error() string { return "step " + e.Step.Name() + ": " + e.Err.Error() }

func (e *StepError) Unwrap() error { return e.Err }

// errNotBuilt refuses a step that this agent cannot carry out.
var errNotBuilt = errors.New("this agent cannot do this yet")

// A Timing is how long one step took.
type Timing struct {
	Step string
	Took time.Duration
}

// A Machine is a machine that Up has brought up, as far as it came.
type Machine struct {
	plan  *plan.Plan
	root  *sys.Root
	greet func(user string) error

	// Timings are in the order of the steps.
	Timings []Timing
	// Env has variables that every command gets in addition to the plan's environment.
	Env []string
	// CommandLimits are limits of the plan that are set for each command and not for
	// the agent, because the agent could not run with them.
	CommandLimits []plan.Limit
	// Init is the program that PID 1 becomes; nil without a hand over.
	Init *Init

	// InitEnds says that an init ends the machine after Down. The init may still write,
	// so no disk may be frozen.
	InitEnds bool

	// RootDisk is the mount of the disk that takes what is written to the root; nil
	// without one. It is open until Down.
	RootDisk *sys.Root

	layered bool      // The root is an overlay.
	undo    []undo    // In the order of the doing.
	late    *lateWork // What goes on when the boot is over; nil without.
}

// Check refuses a plan with a step that Up would not carry out.
func Check(p *plan.Plan) error {
	for _, s := range p.Steps {
		if action(s) == nil {
			return &StepError{s, fmt.Errorf("%w: %s", errNotBuilt, s)}
		}
	}
	return nil
}

// Up carries out a plan. greet tells the host which user commands run as and waits for
// its answer. A step that fails is undone. After an error the Machine has the steps done
// before; the caller takes it down.
func Up(p *plan.Plan, greet func(user string) error) (*Machine, error) {
	m := &Machine{plan: p, greet: greet}
	if err := Check(p); err != nil {
		return m, err
	}
	for _, s := range p.Steps {
		if err := m.step(s); err != nil {
			return m, err
		}
	}
	if m.late != nil {
		m.late.start()
	}
	return m, nil
}

// step carries out one step, and undoes it if it fails.
func (m *Machine) step(s plan.Step) error {
	sys.Yield()
	start, before := sys.BootTime(), len(m.undo)
	err := m.open()
	if err == nil {
		err = action(s)(m)
	}
	m.Timings = append(m.Timings, Timing{s.Name(), sys.BootTime() - start})
	if err == nil {
		return nil
	}
	for len(m.undo) > before {
		m.undoLast()
	}
	return &StepError{s, explain(err)}
}

// open opens the root for the steps.
func (m *Machine) open() (err error) {
	if m.root == nil {
		m.root, err = sys.OpenRoot("/")
	}
	return err
}

// action returns the function of a step, nil if this agent cannot do it. The linter checks
// that every step has a case here.
func action(s plan.Step) func(*Machine) error {
	switch s := s.(type) {
	case plan.Limits:
		return func(m *Machine) error { return m.limits(s) }
	case plan.Mounts:
		return func(m *Machine) error { return m.mounts(s) }
	case plan.Share:
		return func(m *Machine) error { return m.share(s) }
	case plan.Handshake:
		return func(m *Machine) error { return m.greet(s.User) }
	case plan.Hostname:
		return func(m *Machine) error { return m.hostname(s) }
	case plan.HostsFile:
		return func(m *Machine) error { return m.comfort("/etc/hosts", s.Content) }
	case plan.TempDirs:
		return func(m *Machine) error { return m.tempDirs(s) }
	case plan.Loopback:
		return (*Machine).loopback
	case plan.Trust:
		return (*Machine).trust
	case plan.ProfileBlock:
		return (*Machine).profileBlock
	case plan.RunDirs:
		return func(m *Machine) error { return m.runDirs(s) }
	case plan.BlockRoot:
		return func(m *Machine) error { return m.blockRoot(s) }
	case plan.DirMount:
		return func(m *Machine) error { return m.stack(s.Mount) }
	case plan.TmpfsMount:
		return func(m *Machine) error { return m.stack(s.Mount) }
	case plan.FileMount:
		return func(m *Machine) error { return m.fileMount(s) }
	case plan.DiskMount:
		return func(m *Machine) error { return m.diskMount(s) }
	case plan.Interface:
		return func(m *Machine) error { return m.network(s) }
	case plan.Resolver:
		return func(m *Machine) error { return m.comfort("/etc/resolv.conf", s.Content) }
	case plan.Seal:
		return func(*Machine) error { return rootReadOnly() }
	case plan.Handover:
		return func(m *Machine) error { return m.handover(s) }
	}
	return nil
}

func (m *Machine) mounts(s plan.Mounts) error {
	for _, mount := range s.List {
		if err := m.mount(mount); err != nil {
			if !mount.Optional {
				return err
			}
			sys.Logf("left out: %v", err)
		}
	}
	for _, l := range s.Links {
		if err := m.root.Symlink(l.Target, l.Path); err != nil {
			return err
		}
	}
	return nil
}

// share mounts the share. It makes the directory without looking for it first, since few
// images have one: that saves one request to a host that serves the root.
func (m *Machine) share(s plan.Share) error {
	if err := m.root.MkdirAll(s.Mount.Target, 0o755); err != nil {
		return &sys.MountError{Mount: kernelMount(s.Mount), Err: err}
	}
	return m.mount(s.Mount)
}

// mount makes a mount that may be there already.
func (m *Machine) mount(mount plan.Mount) error {
	done, err := m.root.MountOnce(kernelMount(mount))
	if done {
		m.undo = append(m.undo, undo{target: mount.Target, kernel: mount.Type != "virtiofs"})
	}
	return err
}

func kernelMount(m plan.Mount) sys.Mount {
	return sys.Mount{Source: m.Source, Type: m.Type, Target: m.Target, Flags: flags(m.Flags), Data: m.Data}
}

// EarlyMounts makes the mounts by which the port is found. The plan's own mounts find
// them in place later.
func EarlyMounts() error {
	root, err := sys.OpenRoot("/")
	if err != nil {
		return err
	}
	m := &Machine{root: root}
	return errors.Join(m.mounts(plan.Mounts{List: plan.EarlyMounts()}), root.Close())
}

// mountFlags translates a plan's flags into those of package sys.
var mountFlags = [...]struct {
	planned plan.Flags
	flag    sys.MountFlags
}{
	{plan.ReadOnly, sys.ReadOnly}, {plan.NoExec, sys.NoExec}, {plan.NoSUID, sys.NoSUID}, {plan.NoDev, sys.NoDev},
}

func flags(f plan.Flags) (out sys.MountFlags) {
	for _, m := range mountFlags {
		if f.Has(m.planned) {
			out |= m.flag
		}
	}
	return out
}

func (m *Machine) hostname(s plan.Hostname) error {
	if err := sys.SetHostname(s.Host); err != nil {
		return err
	}
	return m.comfort("/etc/hostname", s.Host+"\n")
}

// comfort writes a file that a machine can run without. It leaves the file as it is on a
// read-only root, if the file is a mount point (EBUSY, rename(2)), and if the file's
// directory is a link: the boot follows no link to write.
func (m *Machine) comfort(name, content string) error {
	return tolerate(m.root.RenewFile(name, []byte(content), everybodyReads))
}

const everybodyReads = 0o644

// tolerate ignores errors that only mean that the root is read-only, that the file is a
// mount point, or that a link is in the way.
func tolerate(err error) error {
	if errors.Is(err, syscall.EBUSY) || errors.Is(err, sys.ErrLink) {
		sys.Logf("left as it is: %v", err)
		return nil
	}
	return unlessReadOnly(err)
}

func unlessReadOnly(err error) error {
	if errors.Is(err, syscall.EROFS) {
		sys.Logf("left as it is: %v", err)
		return nil
	}
	return err
}

// tempDirs makes the directories that everybody may write to. A link in place of one
// (images link /var/tmp to /tmp) is accepted if it leads to such a directory. It is never
// followed to change a directory.
func (m *Machine) tempDirs(s plan.TempDirs) error {
	for _, dir := range s.Paths {
		err := m.root.Sticky(dir)
		if errors.Is(err, sys.ErrLink) {
			if !m.root.IsSticky(dir) {
				sys.Logf("left as it is: %v", err)
			}
			continue
		}
		if err := unlessReadOnly(err); err != nil {
			return err
		}
	}
	return nil
}

func (m *Machine) runDirs(s plan.RunDirs) error {
	for _, dir := range s.Paths {
		const perm = 0o755
		err := m.root.MkdirAll(dir, perm)
		if errors.Is(err, sys.ErrLink) {
			sys.Logf("left out: %v", err)
			continue
		}
		if err := unlessReadOnly(err); err != nil {
			return err
		}
	}
	return nil
}
