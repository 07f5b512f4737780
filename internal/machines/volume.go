package machines

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// ErrNoVolume says that there is no volume of that name.
var ErrNoVolume = errors.New("no such volume")

// volumeNames matches the names that container tools allow, as far as a file's name can
// be that long.
var volumeNames = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$`)

// The files of a volume.
const (
	volumesName = "volumes"
	volumeName  = "volume.json"
	volumeData  = "data"
)

// A Volume is a named directory of the store that machines can mount. It outlives them,
// and several machines may use it at once.
//
//	STATE/volumes/NAME/
//	  volume.json   what it is; written once
//	  data/         what machines see
type Volume struct {
	Name    string            `json:"name"`
	Created time.Time         `json:"created"`
	Labels  map[string]string `json:"labels,omitempty"`
	Path    string            `json:"path"`               // On this host.
	Used    []string          `json:"machines,omitempty"` // Names of the machines that use it.
}

// IsVolumeName reports whether s can be a volume's name, and so no path.
func IsVolumeName(s string) bool { return volumeNames.MatchString(s) }

func (s *Store) volumePath(parts ...string) string {
	return filepath.Join(append([]string{s.dir, volumesName}, parts...)...)
}

// VolumePath returns the directory of a volume's files, whether the volume exists or
// not.
func (s *Store) VolumePath(name string) string { return s.volumePath(name, volumeData) }

// VolumeOf returns the name of the volume whose files are at path, if there is one.
func (s *Store) VolumeOf(path string) (name string, ok bool) {
	dir, base := filepath.Split(path)
	parent, name := filepath.Split(filepath.Clean(dir))
	return name, base == volumeData && filepath.Clean(parent) == s.volumePath() && IsVolumeName(name)
}

// MakeVolume makes a volume, or returns the existing one with its labels unchanged;
// made is false then.
func (s *Store) MakeVolume(name string, labels map[string]string) (v Volume, made bool, err error) {
	if !IsVolumeName(name) {
		return v, false, fmt.Errorf("volume name %q: want 1 to 128 letters, digits and any of _.-, a letter or digit first", name)
	}
	err = s.change(func() error {
		if v, err = s.volume(name); !errors.Is(err, ErrNoVolume) {
			return err
		}
		made = true
		v = Volume{Name: name, Created: time.Now().Round(0), Labels: labels}
		return s.makeVolume(v)
	})
	v.Path = s.VolumePath(name)
	return v, made, err
}

// makeVolume makes the files under a hidden name and renames them, so that a volume is
// never incomplete.
func (s *Store) makeVolume(v Volume) error {
	if err := os.MkdirAll(s.volumePath(), 0o700); err != nil {
		return err
	}
	early, err := os.MkdirTemp(s.volumePath(), hidden+"new-")
	if err != nil {
		return err
	}
	data := filepath.Join(early, volumeData)
	err = errors.Join(
		os.Chmod(early, 0o755), //nolint:gosec // The directory above is the owner's alone.
		os.Mkdir(data, 0o755),  //nolint:gosec // The machine's users read it.
		writeJSON(filepath.Join(early, volumeName), v),
	)
	if err == nil {
		err = os.Rename(early, s.volumePath(v.Name))
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(early))
	}
	return nil
}

// volume reads a volume without the list of its users.
func (s *Store) volume(name string) (v Volume, err error) {
	err = ErrNoVolume
	if IsVolumeName(name) {
		err = readJSON(s.volumePath(name, volumeName), &v)
	}
	if errors.Is(err, os.ErrNotExist) {
		err = ErrNoVolume
	}
	v.Path = s.VolumePath(name)
	if err != nil {
		return v, fmt.Errorf("volume %s: %w", name, err)
	}
	return v, nil
}

// Volume returns the volume of a name, or ErrNoVolume.
func (s *Store) Volume(name string) (Volume, error) {
	v, err := s.volume(name)
	if err != nil {
		return v, err
	}
	users, err := s.volumeUsers()
	v.Used = users[name]
	return v, err
}

// Volumes returns all volumes, by their names.
func (s *Store) Volumes() (all []Volume, err error) {
	users, err := s.volumeUsers()
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(s.volumePath())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), hidden) {
			continue
		}
		v, err := s.volume(e.Name())
		if err != nil {
			return nil, err
		}
		v.Used = users[v.Name]
		all = append(all, v)
	}
	return all, nil
}

// volumeUsers maps names of volumes to the names of the machines that use them. A
// machine with an unreadable record is an error, because it may use any volume.
func (s *Store) volumeUsers() (map[string][]string, error) {
	all, err := s.list()
	if err != nil {
		return nil, err
	}
	users := map[string][]string{}
	for _, m := range all {
		for _, mount := range m.record.Config.Mounts {
			if name, ok := s.VolumeOf(mount.Source); ok && !slices.Contains(users[name], m.Name()) {
				users[name] = append(users[name], m.Name())
			}
		}
	}
	return users, nil
}

// RemoveVolume removes a volume with its files. It refuses a volume that a machine
// uses, running or not.
func (s *Store) RemoveVolume(name string) error {
	return s.change(func() error {
		v, err := s.Volume(name)
		if err != nil {
			return err
		}
		if len(v.Used) > 0 {
			return fmt.Errorf("volume %s: machine %s is made with it", name, strings.Join(v.Used, ", "))
		}
		return s.discard(s.volumePath(name))
	})
}
