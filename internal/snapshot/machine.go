package snapshot

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/agentd-go/agentd/internal/vmm"
)

// MachineFormat is the form of the directories of machines that ran. This version makes
// and reads no other.
const MachineFormat = 1

// The kinds of states of machines that ran.
const (
	Snapshot Kind = "snapshot" // With copies of the disks; independent of the machine.
	Pause    Kind = "pause"    // The disks are the machine's own.
)

// maxMachine bounds what is read of a manifest: a configuration may name thousands of
// mounts and variables.
const maxMachine = 16 << 20

// A Machine is the manifest of a machine that ran.
type Machine struct {
	Format int       `json:"format"`
	Kind   Kind      `json:"kind"`
	Made   time.Time `json:"made"`

	Host      Host        `json:"host"`
	VM        vmm.Machine `json:"machine"`
	Arguments []string    `json:"arguments"`              // Of QEMU, without the paths of this host.
	Named     bool        `json:"named_memory,omitempty"` // See vmm.Saved.

	State StateFile `json:"state"`
	Disks []Disk    `json:"disks,omitempty"` // In the order of VM.Disks.

	// Owner is the caller's.
	Owner json.RawMessage `json:"owner,omitempty"`
}

// A Host is what must be equal where the machine goes on.
type Host struct {
	QEMU      string `json:"qemu"`      // Its version, as it says itself.
	Processor string `json:"processor"` // Its model and a digest of its features.
	Kernel    string `json:"kernel"`    // The digest of the machine's kernel.

	// TSCkHz is the frequency of the time stamp counter, 0 if it was not measured.
	TSCkHz int `json:"tsc_khz,omitempty"`
}

// A Disk is one disk of the machine at the moment of the state. It is a file of the
// directory, or the machine's own file, which must not have changed.
type Disk struct {
	File     string `json:"file,omitempty"` // Its name in the directory.
	Size     int64  `json:"size"`
	SHA256   string `json:"sha256,omitempty"` // Of the pages that are not zeros, each after its place.
	ReadOnly bool   `json:"readonly,omitempty"`

	Place *MemoryFile `json:"place,omitempty"` // Of the machine's own file, VM.Disks[i].Path.
}

// tscTolerance is the allowed relative difference (1/tscTolerance) of two measurements of
// one counter's frequency; see package sandbox.
const tscTolerance = 1000

// A MismatchError says that a state cannot go on here: something has to be equal to what
// the machine had, and is not.
type MismatchError struct{ What, Had, Has string }

func (e *MismatchError) Error() string {
	return fmt.Sprintf("it was made with %s %s, and here is %s: a machine goes on only with the same one", e.What, e.Had, e.Has)
}

// Check returns a [MismatchError] if machines of h cannot continue on another host. An empty
// value of the other host is not compared.
func (h Host) Check(here Host) error {
	for _, c := range []struct{ what, had, has string }{
		{"QEMU", h.QEMU, here.QEMU}, {"the processor", h.Processor, here.Processor}, {"the kernel", h.Kernel, here.Kernel},
	} {
		if c.has != "" && c.had != c.has {
			return &MismatchError{c.what, c.had, c.has}
		}
	}
	if diff := h.TSCkHz - here.TSCkHz; here.TSCkHz != 0 && max(diff, -diff) > here.TSCkHz/tscTolerance {
		return &MismatchError{"a processor's counter of", fmt.Sprintf("%d kHz", h.TSCkHz), fmt.Sprintf("one of %d kHz", here.TSCkHz)}
	}
	return nil
}

// StateName is the file of the directory that holds the memory and the devices.
const StateName = stateName

// DiskName is the file of the directory that holds the i-th disk.
func DiskName(i int) string { return fmt.Sprintf("disk%d", i) }

// A Maker makes the directory of a state. Until Commit nothing has the directory's name.
type Maker struct {
	dir, early string
	lock       *os.File
}

// Begin begins to make the directory of a state, which must not be there. What an
// interrupted maker has left is removed first; [ErrBusy] says that one is at work. The
// caller ends it by Commit or Abort.
func Begin(dir string) (*Maker, error) {
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		return nil, errors.Join(err, &fs.PathError{Op: "make", Path: dir, Err: fs.ErrExist})
	}
	early := dir + unfinished
	lock, err := claim(early)
	if err != nil {
		return nil, err
	}
	return &Maker{dir, early, lock}, nil
}

// Path returns the path of a file of the directory.
func (k *Maker) Path(name string) string { return filepath.Join(k.early, name) }

// State makes the file for the memory and the devices. The caller closes it.
func (k *Maker) State() (*os.File, error) { return newFile(k.early, stateName) }

// Commit adds sizes and digests to the manifest and gives the directory its name. When it
// returns nil everything is on the disk. After an error nothing is left.
func (k *Maker) Commit(m Machine) error {
	m.Format = MachineFormat
	return k.commit(m, false)
}

// commit is Commit. If the manifest is exact, its sizes and digests are checked and not
// added.
func (k *Maker) commit(m Machine, exact bool) error {
	said, disks := m.State, slices.Clone(m.Disks)
	err := m.describe(k.early)
	if err == nil && exact && (said != m.State || !slices.Equal(disks, m.Disks)) {
		err = &DamagedError{k.dir, errors.New("its files are not as its manifest says")}
	}
	if err == nil {
		err = errors.Join(writeJSON(k.early, m), syncDir(k.early))
	}
	if err == nil {
		err = os.Rename(k.early, k.dir)
	}
	if err != nil {
		k.Abort()
		return err
	}
	_ = k.lock.Close() // Only a lock.
	return syncDir(filepath.Dir(k.dir))
}

// Abort removes what was made.
func (k *Maker) Abort() {
	_ = os.RemoveAll(k.early) // What stays is removed by the next maker.
	_ = k.lock.Close()        // Only a lock.
}

// describe fills in what is known of the files, and brings them to the disk.
func (m *Machine) describe(dir string) error {
	err := reading(filepath.Join(dir, stateName), func(f *os.File) (err error) {
		if m.State, err = describeState(f); err != nil {
			return err
		}
		return f.Sync()
	})
	for i := range m.Disks {
		if err == nil && m.Disks[i].File != "" {
			err = m.Disks[i].describe(dir)
		}
	}
	return err
}

func (d *Disk) describe(dir string) error {
	return reading(filepath.Join(dir, d.File), func(f *os.File) (err error) {
		if d.Size, d.SHA256, err = digestDisk(f); err != nil || d.ReadOnly {
			return err // It may be another name of a file that was on the disk before.
		}
		return f.Sync()
	})
}

// FileDigest returns the SHA-256 of a file.
func FileDigest(path string) (digest string, err error) {
	err = reading(path, func(f *os.File) error {
		s, err := describeState(f)
		digest = s.SHA256
		return err
	})
	return digest, err
}

func reading(path string, f func(*os.File) error) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f(file), file.Close())
}

// InPlace describes the machine's own disk at path, which nobody writes to.
func InPlace(path string, readOnly bool) (d Disk, err error) {
	err = reading(path, func(f *os.File) error {
		place, err := describeMemory(f)
		d = Disk{Size: place.Size, ReadOnly: readOnly, Place: &place}
		return err
	})
	return d, err
}

// ReadMachine reads the manifest of a state and checks its form, but not its files. A
// directory that is not there is fs.ErrNotExist, anything else a [DamagedError].
func ReadMachine(dir string) (m Machine, err error) {
	err = reading(filepath.Join(dir, manifestName), func(f *os.File) error {
		return json.NewDecoder(io.LimitReader(f, maxMachine)).Decode(&m)
	})
	if _, gone := os.Stat(dir); errors.Is(gone, fs.ErrNotExist) {
		return m, gone
	}
	if err == nil {
		err = m.checkForm()
	}
	if err != nil {
		return m, &DamagedError{dir, fmt.Errorf("%s: %w", manifestName, err)}
	}
	return m, nil
}

func (m *Machine) checkForm() error {
	switch {
	case m.Kind != Snapshot && m.Kind != Pause:
		return fmt.Errorf("kind %q: want %q or %q", m.Kind, Snapshot, Pause)
	case m.Format != MachineFormat:
		return fmt.Errorf("format %d: this version reads %d", m.Format, MachineFormat)
	case len(m.Disks) != len(m.VM.Disks):
		return fmt.Errorf("%d disks: the machine has %d", len(m.Disks), len(m.VM.Disks))
	}
	for i, d := range m.Disks {
		if d.File != "" && d.File != DiskName(i) || d.File == "" && d.Place == nil {
			return fmt.Errorf("disk %d: file %q: want %q", i, d.File, DiskName(i))
		}
	}
	return nil
}

// OpenFiles checks all files of a state in dir, whose digests it computes, and opens the
// file with the memory and the devices. The machine's own disks are looked for at the
// paths of VM.Disks.
func (m *Machine) OpenFiles(dir string) (state *os.File, err error) {
	if state, err = os.Open(filepath.Join(dir, stateName)); err != nil {
		return nil, &DamagedError{dir, err}
	}
	if err := m.checkFiles(dir, state); err != nil {
		return nil, errors.Join(&DamagedError{dir, err}, state.Close())
	}
	return state, nil
}

func (m *Machine) checkFiles(dir string, state *os.File) error {
	is, err := describeState(state)
	if err != nil {
		return err
	}
	if want := m.State; is != want {
		return fmt.Errorf("%s: %d bytes with the digest %.12s: want %d with %.12s", stateName, is.Size, is.SHA256, want.Size, want.SHA256)
	}
	for i, d := range m.Disks {
		if err := d.check(dir, m.VM.Disks[i].Path); err != nil {
			return err
		}
	}
	return nil
}

func (d Disk) check(dir, place string) error {
	if d.File == "" {
		return d.checkPlace(place)
	}
	is := d
	err := reading(filepath.Join(dir, d.File), func(f *os.File) (err error) {
		is.Size, is.SHA256, err = digestDisk(f)
		return err
	})
	if err == nil && (is.Size != d.Size || is.SHA256 != d.SHA256) {
		err = fmt.Errorf("%s: %d bytes with the digest %.12s: want %d with %.12s", d.File, is.Size, is.SHA256, d.Size, d.SHA256)
	}
	return err
}

// checkPlace refuses a disk of the machine's that was changed. The memory would not fit
// it: the guest would write what it remembers of the old content over the new one.
func (d Disk) checkPlace(path string) error {
	is, err := InPlace(path, d.ReadOnly)
	if err != nil {
		return err
	}
	if was, is := *d.Place, *is.Place; was.Size != is.Size || was.Inode != is.Inode || !was.Modified.Equal(is.Modified) {
		return fmt.Errorf("disk %s: it was changed or replaced since: %d bytes, changed %v; want %d, %v", path, is.Size, is.Modified, was.Size, was.Modified)
	}
	return nil
}

// CheckPlaces is the part of [Machine.OpenFiles] that takes no time: it checks that no disk of
// a pause was changed, and the size of the state.
func (m *Machine) CheckPlaces(dir string) error {
	info, err := os.Stat(filepath.Join(dir, stateName))
	if err != nil {
		return err
	}
	if info.Size() != m.State.Size {
		return fmt.Errorf("%s: %d bytes: want %d", stateName, info.Size(), m.State.Size)
	}
	for i, d := range m.Disks {
		if d.File == "" {
			if err := d.checkPlace(m.VM.Disks[i].Path); err != nil {
				return err
			}
		}
	}
	return nil
}

// Discard removes a state, first its name: nobody finds a part of it. Machines that have
// started from it go on.
func Discard(dir string) error {
	gone := dir + unfinished
	lock, err := claim(gone)
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }() // Only a lock.
	err = os.Rename(dir, filepath.Join(gone, "gone"))
	return errors.Join(err, syncDir(filepath.Dir(dir)), os.RemoveAll(gone))
}
