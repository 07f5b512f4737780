package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/agentd-go/agentd/internal/snapshot"
	"github.com/agentd-go/agentd/internal/vmm"
)

// A Snapshot describes a saved machine.
type Snapshot struct {
	Paused    bool            `json:"paused,omitempty"` // It was paused: its disks are not in the directory.
	Made      time.Time       `json:"made"`             // When its clock stood still.
	Config    Config          `json:"config"`
	Record    json.RawMessage `json:"-"`         // What Machine.Snapshot was given.
	QEMU      string          `json:"qemu"`      // QEMU's version.
	Processor string          `json:"processor"` // Its model, and a digest of its features.
	Kernel    string          `json:"kernel"`    // The SHA-256 of its kernel.
	MemoryMiB int             `json:"memory_mib"`
	State     int64           `json:"state_bytes"` // Its memory and devices in the directory.
	Disks     []int64         `json:"disk_bytes"`  // The sizes of its disks.
}

// ReadSnapshot describes a saved machine. It checks no file but the description;
// [Restore] and [Clone] do. A directory that does not exist is fs.ErrNotExist.
func ReadSnapshot(dir string) (s Snapshot, err error) {
	m, own, err := readSaved(dir)
	if err != nil {
		return s, err
	}
	s = Snapshot{
		Paused: m.Kind == snapshot.Pause, Made: m.Made, Config: own.Config, Record: own.Record,
		QEMU: m.Host.QEMU, Processor: m.Host.Processor, Kernel: m.Host.Kernel, MemoryMiB: m.VM.MemoryMiB, State: m.State.Size,
	}
	for _, d := range m.Disks {
		s.Disks = append(s.Disks, d.Size)
	}
	return s, nil
}

func readSaved(dir string) (m snapshot.Machine, own savedMachine, err error) {
	if m, err = snapshot.ReadMachine(dir); err != nil {
		return m, own, err
	}
	if err := json.Unmarshal(m.Owner, &own); err != nil {
		return m, own, fmt.Errorf("%s: %w", dir, err)
	}
	return m, own, nil
}

// A CloneConfig says how a machine that begins in a snapshot differs from the one that was
// saved.
type CloneConfig struct {
	Hostname  string // "" keeps the name.
	MachineID bool   // The machine gets another /etc/machine-id.
	Cache     *Cache // See Config.Cache.
}

// Clone makes a paused machine of a snapshot: its disks are copied into the directory
// files, and pause, which must not exist, becomes a directory for [Restore]. It checks
// every file first, and refuses a machine that was saved with another kernel or processor,
// or in another form. moved is where the caller will move files to, "" for nowhere; Restore is
// told of another place by its Files. It returns the machine's configuration. The snapshot
// is never changed.
func Clone(ctx context.Context, dir, pause, files, moved string, c CloneConfig) (cfg Config, err error) {
	m, own, err := readSaved(dir)
	if err == nil && m.Kind != snapshot.Snapshot {
		err = fmt.Errorf("%s: it is a paused machine, not a snapshot", dir)
	}
	if err != nil {
		return cfg, err
	}
	if err := errors.Join(own.Config.checkClosed(), fits(&m, own.Config.Kernel, c.Cache)); err != nil {
		return cfg, fmt.Errorf("%s: %w", dir, err)
	}
	state, err := m.OpenFiles(dir)
	if err != nil {
		return cfg, err
	}
	defer func() { _ = state.Close() }() // Read only.
	if err := context.Cause(ctx); err != nil {
		return cfg, err
	}
	k, err := snapshot.Begin(pause)
	if err != nil {
		return cfg, err
	}
	cl := cloning{from: dir, files: files, moved: moved, saved: m, own: own}
	if err := cl.make(k, c); err != nil {
		k.Abort()
		return cfg, err
	}
	return cl.own.Config, k.Commit(cl.saved)
}

// checkClosed refuses a configuration that names directories of a host. No machine that
// could be saved has any, so the file was changed: a later start would show them.
func (c Config) checkClosed() error {
	if c.Root != "" || c.Runtime != "" || len(c.Shares)+len(c.Mounts) > 0 {
		return errors.New("its configuration names directories of this host, which no snapshot has")
	}
	return nil
}

// cloning is a snapshot on its way to a paused machine.
type cloning struct {
	from, files, moved string
	saved              snapshot.Machine
	own                savedMachine
}

func (c *cloning) make(k *snapshot.Maker, how CloneConfig) (err error) {
	if err := snapshot.LinkDisk(k.Path(snapshot.StateName), filepath.Join(c.from, snapshot.StateName)); err != nil {
		return err
	}
	if err := os.MkdirAll(c.files, 0o700); err != nil {
		return err
	}
	if c.files, err = filepath.Abs(c.files); err != nil {
		return err
	}
	if c.moved == "" {
		c.moved = c.files
	}
	if err := c.placeDisks(); err != nil {
		return err
	}
	c.saved.Kind = snapshot.Pause
	c.own.Config, c.own.Files = c.config(how.Hostname), c.moved
	c.own.Clone = &clone{Hostname: how.Hostname}
	if how.MachineID {
		c.own.Clone.MachineID = newAttempt() + newAttempt() // 32 digits.
	}
	c.saved.Owner, err = json.Marshal(c.own)
	return err
}

// placeDisks copies the disks into the machine's directory.
func (c *cloning) placeDisks() error {
	disks := slices.Clone(c.saved.VM.Disks)
	for i, d := range c.saved.Disks {
		name := c.diskFile(i)
		to := filepath.Join(c.files, name)
		place := snapshot.CopyDisk
		if d.ReadOnly {
			place = snapshot.LinkDisk
		}
		err := place(to, filepath.Join(c.from, d.File))
		if err == nil && !d.ReadOnly {
			err = syncFile(to)
		}
		if err == nil {
			c.saved.Disks[i], err = snapshot.InPlace(to, d.ReadOnly)
		}
		if err != nil {
			return err
		}
		disks[i].Path = filepath.Join(c.moved, name)
	}
	c.saved.VM.Disks = disks
	return nil
}

// syncFile brings a file to the disk, so that what is made of it is whole after a crash.
func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// diskFile is the name of a disk in the machine's directory: where a later start of the
// machine looks for it.
func (c *cloning) diskFile(i int) string {
	first := c.firstDisk()
	switch {
	case i >= first && i < first+len(c.own.Config.Disks):
		return fmt.Sprintf("disk-%d", i-first)
	case c.saved.VM.Disks[i].ReadOnly:
		return fmt.Sprintf("readonly-%d", i)
	case i == 0:
		return "disk" // See layout.copyOf.
	}
	return "upper"
}

// firstDisk is the place of the first disk of Config.Disks, after those of the image.
func (c *cloning) firstDisk() int {
	n := len(c.saved.VM.Disks) - len(c.own.Config.Disks)
	for _, d := range c.saved.VM.Disks {
		if d.Fixed { // It comes last.
			n--
		}
	}
	return n
}

// config is the machine's configuration with its disks where they are now.
func (c *cloning) config(hostname string) Config {
	cfg := c.own.Config
	if hostname != "" {
		cfg.Hostname = hostname
	}
	cfg.Upper.Disk, cfg.Upper.SizeMiB = "", 0
	cfg.ConsoleFile = ""
	cfg.Disks = slices.Clone(cfg.Disks)
	for i := range cfg.Disks {
		cfg.Disks[i].Path = c.saved.VM.Disks[c.firstDisk()+i].Path
	}
	return cfg
}

// fits refuses a state that cannot go on here. QEMU checks nothing of this. Its version is
// checked when it has started. The kernel is the one of that name in this host's cache.
func fits(m *snapshot.Machine, kernel string, cache *Cache) error {
	if now := m.VM.StateArgs(); !slices.Equal(now, m.Arguments) {
		return &snapshot.MismatchError{What: "the arguments of QEMU", Had: fmt.Sprint(m.Arguments), Has: fmt.Sprint(now)}
	}
	if m.Kind == snapshot.Snapshot { // It may come from another host.
		files, err := Config{Cache: cache}.cacheFiles()
		if err != nil {
			return err
		}
		k, err := files.Kernel(kernel)
		if err != nil {
			return err
		}
		m.VM.Kernel = k.Path
	}
	here, err := thisHost(m.VM.Kernel)
	if err != nil {
		return err
	}
	if m.VM.Accel == vmm.TCG && m.Host.TSCkHz != 0 {
		here.TSCkHz = vmm.MeasureTSC(m.VM.Architecture)
	}
	return m.Host.Check(here)
}

// CheckPause returns nil if [Restore] can continue a paused machine with these files, as
// far as that is seen without reading its memory: all is there, and its disks were not
// changed. A directory that does not exist is fs.ErrNotExist.
func CheckPause(dir, files string) error {
	m, own, err := readSaved(dir)
	if err != nil {
		return err
	}
	relocate(&m, own.Files, files)
	return m.CheckPlaces(dir)
}

// relocate changes the paths of disks in a directory that has another name now.
func relocate(m *snapshot.Machine, from, to string) {
	if dir, err := filepath.Abs(to); err == nil && from != "" {
		for i, d := range m.VM.Disks {
			if name, ok := cutDir(d.Path, from); ok {
				m.VM.Disks[i].Path = filepath.Join(dir, name)
			}
		}
	}
}

// cutDir returns the rest of a path in a directory.
func cutDir(path, dir string) (rest string, ok bool) {
	rest, err := filepath.Rel(dir, path)
	return rest, err == nil && filepath.IsLocal(rest)
}

// A RestoreConfig says how a saved machine goes on. Its fields are as those of [Config];
// all else is as it was.
type RestoreConfig struct {
	Files       string // For a snapshot it must not have the files of a machine.
	Socket      string
	Cache       *Cache
	Log         func(line string)
	Console     io.Writer
	ConsoleFile string

	Hostname  string // For a snapshot: see CloneConfig.
	MachineID bool   // For a snapshot: see CloneConfig.
}

// RemoveSnapshot removes a saved machine. Machines that were made of it stay. A directory
// that does not exist is fs.ErrNotExist.
func RemoveSnapshot(dir string) error {
	if _, err := os.Stat(dir); err != nil {
		return err
	}
	return snapshot.Discard(dir)
}

// SweepSnapshots removes what interrupted programs have left in a directory of saved
// machines.
func SweepSnapshots(dir string) { snapshot.Sweep(dir) }

// PassingDir makes a directory in a directory of saved machines that SweepSnapshots removes
// when lock is closed, or this program has ended.
func PassingDir(dir string) (made string, lock io.Closer, err error) {
	return snapshot.PassingDir(dir)
}

// ExportSnapshot writes a snapshot as one compressed archive, without holes. It checks all
// files first.
func ExportSnapshot(ctx context.Context, dir string, w io.Writer) error {
	return snapshot.Export(ctx, dir, w)
}

// ImportSnapshot makes a snapshot of an archive, in dir, which must not exist. All of it is
// checked. After an error nothing is left. A machine of the snapshot runs whatever is in
// it, and QEMU trusts its form: take archives only from those you trust.
func ImportSnapshot(ctx context.Context, dir string, r io.Reader) error {
	return snapshot.Import(ctx, dir, r)
}
