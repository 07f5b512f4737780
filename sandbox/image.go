package sandbox

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/agentd-go/agentd/internal/image"
	"github.com/agentd-go/agentd/internal/image/ext4"
	"github.com/agentd-go/agentd/wire"
)

// DefaultUpperMiB is the default size of an upper's disk. The file is sparse: it takes
// only the space of the machine's writes.
const DefaultUpperMiB = 8 << 10

// An Upper stores a machine's writes to its image. The zero value is a disk that is
// removed with the machine.
type Upper struct {
	// Disk is the file of a permanent disk with ext4; it is made if it is missing. If
	// the image itself is a disk, the file is a copy of it and the machine's root. Only
	// one machine at a time may use it.
	Disk string `json:"disk,omitempty"`
	// SizeMiB is the size of a new disk, or the limit of a tmpfs; 0 means
	// DefaultUpperMiB, or half of the machine's memory. A disk that exists with another
	// size is refused.
	SizeMiB int `json:"size_mib,omitempty"`
	// Tmpfs keeps the writes in the machine's memory.
	Tmpfs bool `json:"tmpfs,omitempty"`
}

func (c Config) checkUpper() error {
	switch u := c.Upper; {
	case c.Image != "" && c.Root != "":
		return errors.New("a root directory and an image: want one of them")
	case c.Image == "" && u != Upper{}:
		return errors.New("an upper without an image")
	case u.Tmpfs && u.Disk != "":
		return errors.New("an upper on a disk and in memory: want one of them")
	case c.Image != "" && c.ReadOnlyRoot && c.hooks.Foreign:
		return errors.New("a read-only root over an image: only our own agent can have one")
	case u.Tmpfs && c.Configuration == ByEnvironment:
		return errors.New("an upper in memory cannot be configured by environment")
	case u.SizeMiB < 0:
		return fmt.Errorf("upper of %d MiB", u.SizeMiB)
	}
	return c.Upper.checkSize()
}

// checkSize refuses a size for a disk that is there with another one.
func (u Upper) checkSize() error {
	if u.Disk == "" || u.SizeMiB == 0 {
		return nil
	}
	info, err := os.Stat(u.Disk)
	want := int64(u.SizeMiB) << 20
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil // It is made with that size.
	case err != nil:
		return fmt.Errorf("upper: %w", err)
	case !info.Mode().IsRegular():
		return fmt.Errorf("upper %s: its size is its own; leave out the size of %d MiB", u.Disk, u.SizeMiB)
	case info.Size() != want:
		return fmt.Errorf("upper %s: it is there with %d bytes, and %d MiB are %d: leave out the size, which is for a disk that is made, or name another file",
			u.Disk, info.Size(), u.SizeMiB, want)
	}
	return nil
}

// fromImage attaches the image and its upper as the first disks. It returns the
// configuration with these disks as the root, and with the image's defaults for
// commands.
func (l *layout) fromImage(ctx context.Context, cfg Config, cache *image.Cache) (Config, error) {
	options, err := ImportOptions{Accel: cfg.Accel, Platform: cfg.Platform}.choose()
	if err != nil {
		return cfg, err
	}
	img, err := cache.UseImage(ctx, cfg.Image, options)
	if err != nil {
		return cfg, err
	}
	return l.fromLower(cfg, img, 0)
}

// fromLower is fromImage after the image was found. The root's disks come before the
// configuration's disk with the number at.
func (l *layout) fromLower(cfg Config, img image.Image, at int) (Config, error) {
	if cfg.ReadOnlyRoot && img.FSType == "erofs" && cfg.Upper.Disk == "" && cfg.Configuration == ByBootstrap {
		cfg.Upper.Tmpfs = true // The boot's own writes need no disk.
	}
	root, disks, err := l.disksOf(img, cfg.Upper, at)
	if err != nil {
		return cfg, err
	}
	if last := disks[len(disks)-1]; !last.ReadOnly {
		l.rootFile = last.Path
	}
	if img.FSType == "erofs" {
		l.layers = numbers{at, at + len(disks)}
	}
	cfg.Disks = slices.Insert(slices.Clone(cfg.Disks), at, disks...)
	if cfg.User == "" {
		cfg.User = img.Config.User
	}
	if cfg.Configuration == ByBootstrap {
		cfg.Env = mergeEnv(img.Config.Env, cfg.Env)
		cfg.Dir = cmp.Or(cfg.Dir, img.Config.WorkingDir)
	}
	b := *cfg.bootstrap()
	b.BlockRoot = root
	cfg.hooks.Bootstrap = &b
	return cfg, nil
}

// disksOf returns the disks for an image, and the description of the root on them. The
// first of them has the number at.
func (l *layout) disksOf(img image.Image, u Upper, at int) (wire.BlockRoot, []Disk, error) {
	if img.FSType != "erofs" {
		disk, err := l.copyOf(img, u)
		return &wire.DiskImage{Device: diskDevice(at), FSType: &img.FSType}, []Disk{disk}, err
	}
	upper, disks, err := l.upper(u, diskDevice(at+1))
	return &wire.OCIErofs{Lower: diskDevice(at), Upper: upper}, append([]Disk{{Path: img.Path, ReadOnly: true}}, disks...), err
}

const upperType = "ext4"

// mergeEnv merges two environments; entries of upper replace those of lower.
func mergeEnv(lower, upper []string) (all []string) {
	at := map[string]int{}
	for _, entry := range append(append([]string(nil), lower...), upper...) {
		key, _, ok := strings.Cut(entry, "=")
		if !ok || key == "" {
			continue // An image may hold invalid entries; ours were checked.
		}
		if i, ok := at[key]; ok {
			all[i] = entry
			continue
		}
		at[key] = len(all)
		all = append(all, entry)
	}
	return all
}

// upper returns the message's description of the upper, and its disk if it has one.
func (l *layout) upper(u Upper, device string) (wire.Upper, []Disk, error) {
	if u.Tmpfs {
		t := &wire.UpperTmpfs{}
		if size := uint32(u.SizeMiB); size > 0 {
			t.SizeMiB = &size
		}
		return t, nil, nil
	}
	path := u.Disk
	if path == "" {
		path = filepath.Join(l.dir, "upper")
	}
	if err := makeUpper(path, u.SizeMiB); err != nil {
		return nil, nil, fmt.Errorf("upper: %w", err)
	}
	return &wire.UpperDevice{Device: device, FSType: upperType}, []Disk{{Path: path}}, nil
}

// makeUpper makes a disk, unless it exists.
func makeUpper(path string, sizeMiB int) error {
	if sizeMiB == 0 {
		sizeMiB = DefaultUpperMiB
	}
	return makeFile(path, func(temporary string) error {
		f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		var uuid [16]byte
		_, _ = rand.Read(uuid[:]) // Never fails.
		err = ext4.Format(f, int64(sizeMiB)<<20, ext4.Options{UUID: uuid, Label: "upper", Time: time.Now()})
		return errors.Join(err, f.Close())
	})
}

// copyOf returns the machine's private copy of an image that is a disk.
func (l *layout) copyOf(img image.Image, u Upper) (Disk, error) {
	if u.Tmpfs || u.SizeMiB != 0 {
		return Disk{}, fmt.Errorf("image %s is a disk of its own: it has no upper in memory, and its size", img.Source)
	}
	path := u.Disk
	if path == "" {
		path = filepath.Join(l.dir, "disk")
	}
	return Disk{Path: path}, makeFile(path, func(temporary string) error { return image.CopyDisk(temporary, img.Path) })
}

// makeFile makes a file under a temporary name and then links it, unless path exists.
// So an incomplete file never has the name.
func makeFile(path string, write func(temporary string) error) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	temporary := fmt.Sprintf("%s.%d", path, os.Getpid())
	err := write(temporary)
	if err == nil {
		err = os.Link(temporary, path) // Does not replace a file that was made meanwhile.
	}
	if e := os.Remove(temporary); !errors.Is(e, fs.ErrNotExist) {
		err = errors.Join(err, e)
	}
	return err
}
