package snapshot

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/agentd-go/agentd/internal/vmm"
)

// Format is the form of the directories that this version makes, and the only one that
// it reads.
const Format = 1

// Names in the directory of a state.
const (
	manifestName = "manifest.json"
	memoryName   = "mem"
	stateName    = "state"

	// unfinished is at the end of the name of a state that is being made.
	unfinished = ".tmp"
)

// maxManifest bounds what is read of a manifest: ours have below 1 KiB.
const maxManifest = 64 << 10

// A Kind is what a state is for.
type Kind string

// Template is a machine that waits for its configuration.
const Template Kind = "template"

// A Manifest says what a state is of.
type Manifest struct {
	Format int       `json:"format"`
	Kind   Kind      `json:"kind"`
	Key    string    `json:"key"` // Of all that must be equal.
	Made   time.Time `json:"made"`

	// For a reader.
	Kernel    string `json:"kernel,omitempty"`
	CPUs      int    `json:"cpus"`
	MemoryMiB int    `json:"memory_mib"`

	// TSCkHz is the frequency of the processor's time stamp counter, 0 if it was not
	// measured.
	TSCkHz int `json:"tsc_khz,omitempty"`

	Memory MemoryFile `json:"memory"`
	State  StateFile  `json:"state"`
}

// A MemoryFile is what is known of the memory. Its bytes are not read before a start,
// which is to be quick: nobody can change or replace the file without a change here.
type MemoryFile struct {
	Size     int64     `json:"size"`
	Inode    uint64    `json:"inode"`
	Modified time.Time `json:"modified"`
}

// A StateFile is what is known of the state of the devices.
type StateFile struct {
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// A DamagedError is a state that is not as it was made.
type DamagedError struct {
	Dir string
	Err error
}

// Error names the directory.
func (e *DamagedError) Error() string { return e.Dir + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *DamagedError) Unwrap() error { return e.Err }

// A State is one that was checked, with its files open.
type State struct {
	Manifest Manifest
	Files    vmm.Saved
}

// Close closes the files. Machines that have started from them go on.
func (s *State) Close() error { return errors.Join(s.Files.Memory.Close(), s.Files.State.Close()) }

// Open checks a state and opens its files. A directory that is not there is
// fs.ErrNotExist, anything else that is wrong a [DamagedError].
func Open(dir string) (*State, error) {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	s, err := open(dir)
	if err != nil {
		return nil, &DamagedError{dir, err}
	}
	return s, nil
}

func open(dir string) (s *State, err error) {
	s = &State{}
	if err := s.Manifest.read(dir); err != nil {
		return nil, err
	}
	if s.Files.Memory, err = os.Open(filepath.Join(dir, memoryName)); err != nil {
		return nil, err
	}
	if s.Files.State, err = os.Open(filepath.Join(dir, stateName)); err != nil {
		return nil, errors.Join(err, s.Files.Memory.Close())
	}
	if err := s.check(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// read reads the manifest.
func (m *Manifest) read(dir string) error {
	f, err := os.Open(filepath.Join(dir, manifestName))
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, maxManifest))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, m); err != nil {
		return fmt.Errorf("%s: %w", manifestName, err)
	}
	if m.Format != Format {
		return fmt.Errorf("%s: format %d: this version reads %d", manifestName, m.Format, Format)
	}
	return nil
}

// check holds the files against the manifest.
func (s *State) check() error {
	memory, err := describeMemory(s.Files.Memory)
	if err != nil {
		return err
	}
	if want := s.Manifest.Memory; memory.Size != want.Size || memory.Inode != want.Inode || !memory.Modified.Equal(want.Modified) {
		return fmt.Errorf("%s: it is not the file that was made: %d bytes, inode %d, changed %v; want %d, %d, %v", memoryName,
			memory.Size, memory.Inode, memory.Modified, want.Size, want.Inode, want.Modified)
	}
	if want := int64(s.Manifest.MemoryMiB) << 20; memory.Size != want {
		return fmt.Errorf("%s: %d bytes: want %d", memoryName, memory.Size, want)
	}
	state, err := describeState(s.Files.State)
	if err != nil {
		return err
	}
	if want := s.Manifest.State; state != want {
		return fmt.Errorf("%s: %d bytes with the digest %.12s: want %d with %.12s", stateName, state.Size, state.SHA256, want.Size, want.SHA256)
	}
	return nil
}

func describeMemory(f *os.File) (m MemoryFile, err error) {
	info, err := f.Stat()
	if err != nil {
		return m, err
	}
	return MemoryFile{Size: info.Size(), Inode: inodeOf(info), Modified: info.ModTime().UTC()}, nil
}

// describeState leaves the file at its beginning.
func describeState(f *os.File) (s StateFile, err error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return s, err
	}
	h := sha256.New()
	if s.Size, err = io.Copy(h, f); err != nil {
		return s, err
	}
	s.SHA256 = hex.EncodeToString(h.Sum(nil))
	_, err = f.Seek(0, io.SeekStart)
	return s, err
}
