// Package pods finds the machines that containerd's shim runs, one for each pod. It
// reads what the shim keeps of them and changes nothing: containerd owns them.
//
// A pod has one directory below [RunDir]: its record, the socket of the shim, the
// agent's socket and the console.
package pods

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// RunDir has the directories of pods; RunVariable names another, as it does for the
// shim.
const (
	RunDir      = "/run/agentd-shim"
	RunVariable = "AGENTD_SHIM_RUN"
)

// Prefix begins the name of a pod. No machine of agentctl's own has a slash in its
// name.
const Prefix = "pod/"

// maxRecord bounds a record: a few paths.
const maxRecord = 64 << 10

// dialTime is for a shim that lives to take a connection.
const dialTime = 5 * time.Second

// Errors that a caller tells apart.
var (
	ErrNotFound = errors.New("not found")
	ErrDead     = errors.New("its shim was killed")
	ErrStarting = errors.New("its machine is starting")
)

// A Pod is one machine of containerd's. The fields are those of the shim's record.
type Pod struct {
	ID        string    // Of the pod's sandbox or first container.
	Namespace string    // Of containerd.
	PID       int       // Of the shim.
	Created   time.Time // When the shim was started.

	dir string
}

// Name is how commands name the pod.
func (p Pod) Name() string { return Prefix + p.ID }

// Socket is where the pod's agent serves clients.
func (p Pod) Socket() string { return filepath.Join(p.dir, "agent.sock") }

// CopyConsole writes what the guest has printed: the first 4 MiB.
func (p Pod) CopyConsole(to io.Writer) (err error) {
	f, err := os.Open(filepath.Join(p.dir, "console"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // Nothing has booted yet.
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = io.Copy(to, f)
	return err
}

// Check returns nil if the pod's machine runs, else [ErrDead] or [ErrStarting].
func (p Pod) Check() error {
	d := net.Dialer{Timeout: dialTime}
	c, err := d.Dial("unix", filepath.Join(p.dir, "shim.sock"))
	if err != nil {
		return ErrDead
	}
	if err := c.Close(); err != nil {
		return err
	}
	if _, err := os.Stat(p.Socket()); err != nil {
		return ErrStarting
	}
	return nil
}

// List returns all pods, the oldest first. A pod that cannot be read is an error
// beside the others.
func List() (all []Pod, err error) {
	base := cmp.Or(os.Getenv(RunVariable), RunDir)
	entries, err := os.ReadDir(base)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, e := range entries {
		p, failed := read(filepath.Join(base, e.Name()))
		if failed == nil {
			all = append(all, p)
		} else if !errors.Is(failed, fs.ErrNotExist) { // It is made or removed this moment.
			err = errors.Join(err, fmt.Errorf("pod: %w", failed))
		}
	}
	slices.SortStableFunc(all, func(a, b Pod) int { return a.Created.Compare(b.Created) })
	return all, err
}

func read(dir string) (p Pod, err error) {
	path := filepath.Join(dir, "agentd-pod.json")
	f, err := os.Open(path) //nolint:gosec // Below the directory of pods, or of root's choice.
	if err != nil {
		return p, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := json.NewDecoder(io.LimitReader(f, maxRecord)).Decode(&p); err != nil {
		return p, fmt.Errorf("%s: %w", path, err)
	}
	p.dir = dir
	return p, nil
}

// Get returns the pod of a name: pod/ID or pod/NAMESPACE/ID. The beginning of an ID
// is enough if no other pod has it.
func Get(name string) (Pod, error) {
	all, err := List()
	if err != nil && len(all) == 0 {
		return Pod{}, err
	}
	found := match(all, strings.TrimPrefix(name, Prefix))
	switch len(found) {
	case 0:
		return Pod{}, fmt.Errorf("%s: %w", name, ErrNotFound)
	case 1:
		return found[0], nil
	}
	var names []string
	for _, p := range found {
		names = append(names, Prefix+p.Namespace+"/"+p.ID)
	}
	return Pod{}, fmt.Errorf("%s: it can be each of %s", name, strings.Join(names, ", "))
}

// match prefers whole IDs to beginnings.
func match(all []Pod, want string) []Pod {
	id := want
	if namespace, rest, ok := strings.Cut(want, "/"); ok {
		id = rest
		all = slices.DeleteFunc(slices.Clone(all), func(p Pod) bool { return p.Namespace != namespace })
	}
	var whole, begin []Pod
	for _, p := range all {
		switch {
		case p.ID == id:
			whole = append(whole, p)
		case id != "" && strings.HasPrefix(p.ID, id):
			begin = append(begin, p)
		}
	}
	if whole != nil {
		return whole
	}
	return begin
}
