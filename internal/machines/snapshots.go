package machines

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/agentd-go/agentd/sandbox"
)

var (
	// ErrNoSnapshot says that there is no snapshot of that name.
	ErrNoSnapshot = errors.New("no such snapshot")
	// ErrSnapshotExists says that a snapshot of that name exists already.
	ErrSnapshotExists = errors.New("a snapshot of that name exists")
)

// A Snapshot is a machine of the store as it was at one moment.
type Snapshot struct {
	Name      string    `json:"name"`
	Machine   string    `json:"machine"` // The machine's name.
	Made      time.Time `json:"made"`    // When the machine stood still.
	Image     string    `json:"image,omitempty"`
	Kernel    string    `json:"kernel,omitempty"` // The machine's, as it was named; "" means the default.
	CPUs      int       `json:"cpus"`
	MemoryMiB int       `json:"memory_mib"`
	QEMU      string    `json:"qemu"` // The version that the machine needs.
	Processor string    `json:"processor"`
	State     int64     `json:"state_bytes"` // Its memory and devices in the directory.
	Disks     []int64   `json:"disk_bytes"`  // The sizes of its disks.
	Size      int64     `json:"size"`        // Its bytes on this host's disk, without holes.
	Path      string    `json:"path"`

	stored json.RawMessage // Of its machine's Record.
}

func (s *Store) snapshotPath(names ...string) string {
	return filepath.Join(append([]string{s.dir, "snapshots"}, names...)...)
}

func checkSnapshotName(name string) error {
	if !names.MatchString(name) || strings.HasSuffix(name, unfinished) {
		return fmt.Errorf("snapshot name %q: want 1 to 40 letters, digits and any of _.-, a letter or digit first, and not %s at the end", name, unfinished)
	}
	return nil
}

// unfinished is the end of the name of a snapshot that is being made or removed (package
// snapshot).
const unfinished = ".tmp"

// FreeSnapshot returns nil if a snapshot can be made under a name, or else the reason why
// not.
func (s *Store) FreeSnapshot(name string) error {
	err := checkSnapshotName(name)
	if err == nil {
		if _, failed := os.Lstat(s.snapshotPath(name)); failed == nil {
			err = fmt.Errorf("snapshot %s: %w", name, ErrSnapshotExists)
		}
	}
	return err
}

// MakeSnapshot makes a snapshot of a running machine, which goes on.
func (s *Store) MakeSnapshot(ctx context.Context, m *Machine, name string) error {
	if err := s.FreeSnapshot(name); err != nil {
		return err
	}
	if err := os.MkdirAll(s.snapshotPath(), 0o700); err != nil {
		return err
	}
	return m.askSaving(ctx, request{Do: controlSnapshot, Dir: s.snapshotPath(name)})
}

// PassingSnapshot is MakeSnapshot without a name, for forks. The caller discards it. If it
// does not, the next call of Snapshots removes it.
func (s *Store) PassingSnapshot(ctx context.Context, m *Machine) (snap Snapshot, discard func() error, err error) {
	if err := os.MkdirAll(s.snapshotPath(), 0o700); err != nil {
		return snap, nil, err
	}
	dir, lock, err := sandbox.PassingDir(s.snapshotPath())
	if err != nil {
		return snap, nil, err
	}
	discard = func() error { return errors.Join(os.RemoveAll(dir), lock.Close()) }
	snap = Snapshot{Name: "of " + m.Name(), Path: filepath.Join(dir, "fork")}
	if err = m.askSaving(ctx, request{Do: controlSnapshot, Dir: snap.Path}); err == nil {
		err = snap.read()
	}
	if err != nil {
		return snap, nil, errors.Join(err, discard())
	}
	return snap, discard, nil
}

// Snapshot returns the snapshot of a name, or ErrNoSnapshot.
func (s *Store) Snapshot(name string) (Snapshot, error) {
	snap := Snapshot{Name: name, Path: s.snapshotPath(name)}
	err := fs.ErrNotExist
	if checkSnapshotName(name) == nil {
		err = snap.read()
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = ErrNoSnapshot
	}
	if err != nil {
		return snap, fmt.Errorf("snapshot %s: %w", name, err)
	}
	snap.Size, err = sandbox.DiskUse(snap.Path)
	return snap, err
}

// read fills in what the directory says.
func (s *Snapshot) read() error {
	is, err := sandbox.ReadSnapshot(s.Path)
	if err != nil {
		return err
	}
	s.Made, s.Image, s.Kernel, s.CPUs, s.MemoryMiB = is.Made, is.Config.Image, is.Config.Kernel, is.Config.CPUs, is.MemoryMiB
	s.QEMU, s.Processor, s.State, s.Disks, s.stored = is.QEMU, is.Processor, is.State, is.Disks, is.Record
	r, err := s.record()
	s.Machine = r.Name
	return err
}

func (s *Snapshot) record() (Record, error) {
	var stored storedRecord
	if err := json.Unmarshal(s.stored, &stored); err != nil {
		return Record{}, fmt.Errorf("snapshot %s: its machine's record: %w", s.Name, err)
	}
	return stored.record()
}

// Snapshots returns all snapshots, the oldest first. If one cannot be read, the error says
// so and the others are returned. It removes the leftovers of interrupted programs.
func (s *Store) Snapshots() (all []Snapshot, err error) {
	sandbox.SweepSnapshots(s.snapshotPath())
	entries, err := os.ReadDir(s.snapshotPath())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), unfinished) || !e.IsDir() {
			continue
		}
		snap, failed := s.Snapshot(e.Name())
		if failed == nil {
			all = append(all, snap)
		} else if !errors.Is(failed, ErrNoSnapshot) { // Removed meanwhile.
			err = errors.Join(err, failed)
		}
	}
	slices.SortStableFunc(all, func(a, b Snapshot) int { return a.Made.Compare(b.Made) })
	return all, err
}

// ExportSnapshot writes a snapshot as an archive.
func (s *Store) ExportSnapshot(ctx context.Context, name string, w io.Writer) error {
	snap, err := s.Snapshot(name)
	if err == nil {
		err = sandbox.ExportSnapshot(ctx, snap.Path, w)
	}
	return err
}

// ImportSnapshot makes a snapshot of an archive.
func (s *Store) ImportSnapshot(ctx context.Context, name string, r io.Reader) error {
	if err := s.FreeSnapshot(name); err != nil {
		return err
	}
	if err := os.MkdirAll(s.snapshotPath(), 0o700); err != nil {
		return err
	}
	if err := sandbox.ImportSnapshot(ctx, s.snapshotPath(name), r); err != nil {
		return err
	}
	snap := Snapshot{Name: name, Path: s.snapshotPath(name)}
	if err := snap.read(); err != nil {
		return errors.Join(fmt.Errorf("archive of a snapshot: %w", err), s.RemoveSnapshot(name))
	}
	return nil
}

// RemoveSnapshot removes a snapshot. Machines that were made of it stay.
func (s *Store) RemoveSnapshot(name string) error {
	err := fs.ErrNotExist
	if checkSnapshotName(name) == nil {
		err = sandbox.RemoveSnapshot(s.snapshotPath(name))
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = ErrNoSnapshot
	}
	if err != nil {
		return fmt.Errorf("snapshot %s: %w", name, err)
	}
	return nil
}

// A RestoreRequest says how a machine differs from that of a snapshot.
type RestoreRequest struct {
	Name      string
	Hostname  string // "" means Name.
	MachineID bool   // It gets another /etc/machine-id.
	Ports     []Port // Those of the snapshot's machine are not kept.
}

// Restore makes a machine of a snapshot. The machine is paused: Resume continues it. It has
// copies of the snapshot's disks. Either all of it is made or nothing.
func (s *Store) Restore(ctx context.Context, snap Snapshot, q RestoreRequest) (*Machine, error) {
	r, err := snap.record()
	if err != nil {
		return nil, err
	}
	r.Name, r.Created, r.Format = q.Name, time.Now().Round(0), recordFormat
	r.Ports, r.Socket, r.Passing = q.Ports, "", false
	if err := s.Free(q.Name); err != nil {
		return nil, err
	}
	final := s.path(q.Name)
	early, unlock, err := s.early()
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := s.fill(ctx, early, snap, q, &r); err != nil {
		return nil, errors.Join(err, os.RemoveAll(early))
	}
	err = s.change(func() error {
		if _, err := os.Lstat(final); err == nil {
			return ErrExists
		}
		return os.Rename(early, final)
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("machine %s: %w", q.Name, err), os.RemoveAll(early))
	}
	return &Machine{store: s, dir: final, record: r}, nil
}

// fill fills a machine's directory.
func (s *Store) fill(ctx context.Context, dir string, snap Snapshot, q RestoreRequest, r *Record) error {
	host := q.Hostname
	if host == "" {
		host = q.Name
	}
	files := filepath.Join(dir, filesName)
	cfg, err := sandbox.Clone(ctx, snap.Path, filepath.Join(dir, pausedName), files, filepath.Join(s.path(q.Name), filesName),
		sandbox.CloneConfig{Hostname: host, MachineID: q.MachineID})
	if err != nil {
		return fmt.Errorf("snapshot %s: %w", snap.Name, err)
	}
	r.Config = cfg
	if q.Hostname == "" {
		r.Config.Hostname = "" // It is the machine's name.
	}
	return writeJSON(filepath.Join(dir, recordName), storeRecord(*r))
}

// early makes a hidden directory for a machine. It is locked until unlock, so that no other
// program takes it for a leftover.
func (s *Store) early() (dir string, unlock func(), err error) {
	err = s.change(func() error {
		if dir, err = os.MkdirTemp(s.path(""), hidden+"new-"); err != nil {
			return err
		}
		life, err := take(filepath.Join(dir, lifeName))
		if err != nil {
			return err
		}
		unlock = func() { _ = life.Close() } // Only a lock.
		return nil
	})
	return dir, unlock, err
}
