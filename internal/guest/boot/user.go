package boot

import (
	"errors"
	"path"
	"syscall"

	"github.com/agentd-go/agentd/internal/guest/plan"
	"github.com/agentd-go/agentd/internal/guest/sys"
)

// stack makes one of the user's mounts, over any mount that is there.
func (m *Machine) stack(mount plan.Mount) error {
	if err := m.root.Mount(kernelMount(mount)); err != nil {
		return err
	}
	m.undo = append(m.undo, undo{target: mount.Target})
	return nil
}

// fileMount binds one file of a share to its path. Kernels before 6.15 clone only from a
// mount that is attached (fs/namespace.c, may_copy_tree), hence the staging directory.
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
	// The bind keeps the file system alive. The unmount is lazy, so that it cannot fail and
	// leave the staging directory in the share.
	if e := sys.Unmount(staging, true); e != nil {
		return errors.Join(err, e) // It is still mounted: remove nothing in it.
	}
	m.removeStaging(staging)
	return err
}

// removeStaging removes the staging directory and its parent. Directories that a killed
// machine has left there do no harm.
func (m *Machine) removeStaging(dir string) {
	err := m.root.RemoveDir(dir)
	if err == nil {
		err = m.root.RemoveDir(plan.FileMountsDir)
	}
	if err != nil && !errors.Is(err, syscall.ENOENT) {
		sys.Logf("left behind: %v", err)
	}
}
