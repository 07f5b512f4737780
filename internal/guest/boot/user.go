package boot

import (
	"errors"
	"path"
	"syscall"

	"github.com/agentd-go/agentd/internal/guest/plan"
	"github.com/agentd-go/agentd/internal/guest/sys"
)

// stack makes a mount of the user's, over whatever is mounted there.
func (m *Machine) stack(mount plan.Mount) error {
	if err := m.root.Mount(kernelMount(mount)); err != nil {
		return err
	}
	m.undo = append(m.undo, undo{target: mount.Target})
	return nil
}

// fileMount shows one file of a share. Kernels before 6.15 clone only from a
// mount that stands somewhere (fs/namespace.c, may_copy_tree), hence the staging.
func (m *Machine) fileMount(s plan.FileMount) error {
	staging := s.Staging()
	err := m.root.Mount(sys.Mount{Source: s.Tag, Type: "virtiofs", Target: staging, Flags: flags(s.Flags)})
	if err != nil {
		m.removeStaging(staging)
		return err
	}
	err = m.root.BindFile(path.Join(staging, s.Filename), s.Path, flags(s.Flags))
	if err == nil {
		m.undo = append(m.undo, undo{target: s.Path})
	}
	// The bind keeps the file system alive; lazily, so that nothing can make the
	// staging stay in the share.
	if e := sys.Unmount(staging, true); e != nil {
		return errors.Join(err, e) // Nothing may be removed in there now.
	}
	m.removeStaging(staging)
	return err
}

// removeStaging removes the staging directory and the one for all. What a
// machine that lost its power has left there makes no difference to this one.
func (m *Machine) removeStaging(dir string) {
	err := m.root.RemoveDir(dir)
	if err == nil {
		err = m.root.RemoveDir(plan.FileMountsDir)
	}
	if err != nil && !errors.Is(err, syscall.ENOENT) {
		sys.Logf("left behind: %v", err)
	}
}
