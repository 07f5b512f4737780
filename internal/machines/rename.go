package machines

import (
	"errors"
	"fmt"
	"os"
)

// Rename gives a machine without a supervisor another name. The directory's name
// counts, not the name in the record.
func (m *Machine) Rename(name string) (err error) {
	if err := checkName(name); err != nil {
		return err
	}
	life, err := take(m.file(lifeName))
	if err != nil {
		return m.wrap(err)
	}
	defer func() { err = errors.Join(err, life.Close()) }()
	final := m.store.path(name)
	err = m.store.change(func() error {
		if _, err := os.Lstat(final); err == nil {
			return fmt.Errorf("%s: %w", name, ErrExists)
		}
		return os.Rename(m.dir, final)
	})
	if err != nil {
		return m.wrap(err)
	}
	m.dir, m.record.Name = final, name
	return m.wrap(writeJSON(m.file(recordName), storeRecord(m.record)))
}

// HasOutput reports whether the machine may have kept output: it has a command in the
// background and was started.
func (m *Machine) HasOutput() bool {
	_, err := os.Lstat(m.Output())
	return err == nil
}
