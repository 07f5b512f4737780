package machines

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/agentd-go/agentd/sandbox"
)

// StateVariable is the environment variable that replaces the default directory of the
// store.
const StateVariable = "AGENTCTL_STATE"

var (
	// ErrRunning says that a machine has a supervisor already.
	ErrRunning = errors.New("it is running")
	// ErrNotRunning says that a machine has no supervisor.
	ErrNotRunning = errors.New("it is not running")
	// ErrNotFound says that there is no machine of that name.
	ErrNotFound = errors.New("no such machine")
	// ErrExists says that a machine of that name exists already.
	ErrExists = errors.New("a machine of that name exists")
)

// hidden is the prefix of directories that are being made or removed.
const hidden = "."

// names matches the names that container tools allow, up to 40 characters. So the path
// of a socket in the machine's directory fits into 107 bytes (unix(7)), with some 50
// bytes for the home directory.
var names = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,39}$`)

// A Store is a directory of machines.
type Store struct{ dir string }

// Open returns the store in a directory; "" is $AGENTCTL_STATE, else
// $XDG_STATE_HOME/agentctl, else ~/.local/state/agentctl. Open makes the directory if
// it is missing.
func Open(dir string) (*Store, error) {
	dir, err := storeDir(dir)
	if err != nil {
		return nil, err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(dir, "machines"), 0o700); err != nil {
		return nil, err
	}
	return &Store{dir}, nil
}

func storeDir(given string) (string, error) {
	if dir := cmp.Or(given, os.Getenv(StateVariable)); dir != "" {
		return dir, nil
	}
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "agentctl"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("where machines are kept: %w; set %s", err, StateVariable)
	}
	return filepath.Join(home, ".local", "state", "agentctl"), nil
}

// Dir returns the store's directory.
func (s *Store) Dir() string { return s.dir }

func (s *Store) path(name string) string { return filepath.Join(s.dir, "machines", name) }

// change calls f under the store's lock, so that no other process makes or removes
// names.
func (s *Store) change(f func() error) error {
	return exclusively(filepath.Join(s.dir, "lock"), f)
}

// Create makes a machine and does not start it. A record without a name gets one.
func (s *Store) Create(r Record) (*Machine, error) {
	if r.Name == "" {
		r.Name = newName()
	}
	if err := checkName(r.Name); err != nil {
		return nil, err
	}
	r.Format, r.Created = recordFormat, time.Now().Round(0)
	final := s.path(r.Name)
	err := s.change(func() error {
		if _, err := os.Lstat(final); err == nil {
			return ErrExists
		}
		early, err := os.MkdirTemp(filepath.Dir(final), hidden+"new-")
		if err != nil {
			return err
		}
		if err := writeJSON(filepath.Join(early, recordName), storeRecord(r)); err != nil {
			return err
		}
		return os.Rename(early, final)
	})
	if err != nil {
		return nil, fmt.Errorf("machine %s: %w", r.Name, err)
	}
	return &Machine{store: s, dir: final, record: r}, nil
}

// Free returns nil if a machine can be made under a name, or else the reason why not.
func (s *Store) Free(name string) error {
	err := checkName(name)
	if err == nil {
		if _, failed := os.Lstat(s.path(name)); failed == nil {
			err = fmt.Errorf("machine %s: %w", name, ErrExists)
		}
	}
	return err
}

func checkName(name string) error {
	if !names.MatchString(name) {
		return fmt.Errorf("machine name %q: want 1 to 40 letters, digits and any of _.-, a letter or digit first", name)
	}
	return nil
}

// NewName returns a random name for a machine.
func (s *Store) NewName() string { return newName() }

// newName returns a random name of 32 bits, which is unique enough among dozens of
// machines.
func newName() string {
	var b [4]byte
	_, _ = rand.Read(b[:]) // Never fails (package crypto/rand).
	return "m-" + hex.EncodeToString(b[:])
}

// Get returns the machine of a name, or ErrNotFound.
func (s *Store) Get(name string) (*Machine, error) {
	m := &Machine{store: s, dir: s.path(name)}
	err := ErrNotFound
	var stored storedRecord
	if names.MatchString(name) {
		err = readJSON(filepath.Join(m.dir, recordName), &stored)
	}
	if errors.Is(err, os.ErrNotExist) {
		err = ErrNotFound
	}
	if err == nil {
		m.record, err = stored.record()
	}
	if err != nil {
		return nil, fmt.Errorf("machine %s: %w", name, err)
	}
	m.record.Name = name // It may have been renamed.
	return m, nil
}

// List returns all machines, the oldest first, and removes the leftovers of interrupted
// programs. If a machine cannot be read, the error says so and the others are returned.
func (s *Store) List() (all []*Machine, err error) {
	err = s.change(s.sweep)
	all, failed := s.list()
	return all, errors.Join(err, failed)
}

// list is List without the removal. The caller may hold the lock.
func (s *Store) list() (all []*Machine, err error) {
	entries, err := os.ReadDir(s.path(""))
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), hidden) {
			continue
		}
		m, failed := s.Get(e.Name())
		if failed == nil {
			all = append(all, m)
		} else if !errors.Is(failed, ErrNotFound) { // Removed meanwhile.
			err = errors.Join(err, failed)
		}
	}
	slices.SortStableFunc(all, func(a, b *Machine) int { return a.record.Created.Compare(b.record.Created) })
	return all, err
}

// sweep removes directories with hidden names. Machines are made and renamed under the
// lock that the caller holds, so the program that left such a directory has ended or is
// removing it too.
func (s *Store) sweep() (err error) {
	for _, dir := range []string{s.path(""), s.volumePath()} {
		entries, failed := os.ReadDir(dir)
		if !errors.Is(failed, os.ErrNotExist) {
			err = errors.Join(err, failed)
		}
		for _, e := range entries {
			path := filepath.Join(dir, e.Name())
			if busy, _ := held(filepath.Join(path, lifeName)); strings.HasPrefix(e.Name(), hidden) && !busy { // See early.
				err = errors.Join(err, sandbox.RemoveFiles(path))
			}
		}
	}
	return err
}

// discard removes the directory of a machine or a volume. The caller holds the store's lock.
func (s *Store) discard(dir string) error {
	old, err := os.MkdirTemp(filepath.Dir(dir), hidden+"old-")
	if err != nil {
		return err
	}
	if err := os.Rename(dir, filepath.Join(old, "machine")); err != nil {
		return err
	}
	return sandbox.RemoveFiles(old)
}
