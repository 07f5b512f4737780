package snapshot

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/agentd-go/agentd/internal/vmm"
)

// Create makes a state in dir, which must not be there: fill writes the two files.
// Nobody else may make the same one meanwhile. What an earlier maker has left
// unfinished is removed, and so is ours if it fails.
func Create(dir string, m Manifest, fill func(vmm.Saved) error) (err error) {
	early := dir + unfinished
	if err := os.RemoveAll(early); err != nil {
		return err
	}
	if err := os.Mkdir(early, 0o700); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(early))
		}
	}()
	m.Format = Format
	if err := write(early, m, fill); err != nil {
		return err
	}
	if err := os.Rename(early, dir); err != nil {
		return err
	}
	return syncDir(filepath.Dir(dir))
}

// write fills the directory and brings it to the disk.
func write(dir string, m Manifest, fill func(vmm.Saved) error) (err error) {
	var files vmm.Saved
	if files.Memory, err = newFile(dir, memoryName); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, files.Memory.Close()) }()
	if files.State, err = newFile(dir, stateName); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, files.State.Close()) }()
	if err := fill(files); err != nil {
		return err
	}
	if err := dig(files.Memory, m.Kind); err != nil {
		return fmt.Errorf("%s: leave out pages of nothing: %w", memoryName, err)
	}
	// Their names say that they are whole: a crash must not leave less behind them.
	if err := errors.Join(files.Memory.Sync(), files.State.Sync()); err != nil {
		return err
	}
	if m.Memory, err = describeMemory(files.Memory); err != nil {
		return err
	}
	if m.State, err = describeState(files.State); err != nil {
		return err
	}
	return errors.Join(writeJSON(dir, m), syncDir(dir))
}

// newFile is for its owner alone: the memory of a machine holds what its user does.
func newFile(dir, name string) (*os.File, error) {
	return os.OpenFile(filepath.Join(dir, name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
}

// writeJSON writes the manifest.
func writeJSON(dir string, m any) error {
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	f, err := newFile(dir, manifestName)
	if err != nil {
		return err
	}
	_, err = f.Write(append(b, '\n'))
	return errors.Join(err, f.Sync(), f.Close())
}

// syncDir brings the names in a directory to the disk.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
