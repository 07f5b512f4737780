package sandbox

import (
	"context"
	"slices"
	"time"

	"github.com/agentd-go/agentd/internal/image"
)

// ErrImageNotFound says that the cache has no image of that name.
var ErrImageNotFound = image.ErrNoImage

// ErrNotInImage says that an image has no directory of that name.
var ErrNotInImage = image.ErrNoDirectory

// An Image is a root in the cache that machines can start from.
type Image struct {
	ID       string      `json:"id"`    // sha256:HEX
	Names    []string    `json:"names"` // NAME:TAG
	FSType   string      `json:"fstype"`
	Size     int64       `json:"size"` // Bytes on the host's disk.
	Source   string      `json:"source"`
	Imported time.Time   `json:"imported"`
	Path     string      `json:"path"` // The file with the file system, which must not be changed.
	Layers   []string    `json:"layers"`
	Config   ImageConfig `json:"config"`
}

// An ImageConfig is an image's description of how to run it.
type ImageConfig struct {
	Architecture string            `json:"architecture,omitempty"`
	OS           string            `json:"os,omitempty"`
	Variant      string            `json:"variant,omitempty"` // Of amd64: v1 to v4; of arm64: v8.
	Created      time.Time         `json:"created,omitzero"`
	User         string            `json:"user,omitempty"`
	Env          []string          `json:"env,omitempty"`
	Entrypoint   []string          `json:"entrypoint,omitempty"`
	Cmd          []string          `json:"cmd,omitempty"`
	WorkingDir   string            `json:"working_dir,omitempty"`
	Labels       map[string]string `json:"labels,omitempty"`

	// A machine does not act on the following fields; its user may.

	Volumes      []string     `json:"volumes,omitempty"`       // Paths whose content should outlive a container.
	ExposedPorts []string     `json:"exposed_ports,omitempty"` // PORT[/tcp|udp].
	StopSignal   string       `json:"stop_signal,omitempty"`   // A name or a number; "" is SIGTERM.
	Healthcheck  *Healthcheck `json:"healthcheck,omitempty"`   // nil for none.
}

// A Healthcheck is a command that tests whether an image's program works. Durations and
// retries of zero mean the defaults of container tools.
type Healthcheck struct {
	// Test is NONE, or CMD and the words of a command, or CMD-SHELL and a line for the
	// shell.
	Test          []string      `json:"test"`
	Interval      time.Duration `json:"interval_ns,omitempty"` // From the end of a check to the next.
	Timeout       time.Duration `json:"timeout_ns,omitempty"`
	StartPeriod   time.Duration `json:"start_period_ns,omitempty"`   // Failures in this time do not count.
	StartInterval time.Duration `json:"start_interval_ns,omitempty"` // Replaces Interval during StartPeriod.
	Retries       int           `json:"retries,omitempty"`           // Consecutive failures until it is unhealthy.
}

func describeConfig(i image.Image) ImageConfig {
	c := i.Config
	return ImageConfig{
		Architecture: c.Architecture, OS: c.OS, Variant: c.Variant, Created: c.Created, User: c.User, Env: c.Env, Entrypoint: c.Entrypoint,
		Cmd: c.Cmd, WorkingDir: c.WorkingDir, Labels: c.Labels, Volumes: c.Volumes, ExposedPorts: c.ExposedPorts, StopSignal: c.StopSignal,
		Healthcheck: (*Healthcheck)(c.Healthcheck),
	}
}

func describeImage(i image.Image) Image {
	d := Image{
		ID: i.ID, Names: i.Names, FSType: i.FSType, Size: i.Size, Source: i.Source, Imported: i.Imported, Path: i.Path, Layers: i.Layers,
		Config: describeConfig(i),
	}
	if d.Names == nil {
		d.Names = []string{}
	}
	if d.Layers == nil {
		d.Layers = []string{}
	}
	return d
}

// Is reports whether the image has a name, which may lack its tag.
func (i Image) Is(name string) bool {
	full, err := image.FullName(name)
	return err == nil && slices.Contains(i.Names, full)
}

// CopyOut copies the contents of a directory of the image to the empty directory to of
// this host, with modes, times and, as root, owners: a new volume's first files. It
// follows links within the image. It leaves out set-user-ID bits, devices, fifos, sockets
// and extended attributes; left has a line for each kind of those. The error is
// [ErrNotInImage] if the image has no such directory. After an error the directory to
// holds a part.
//
// Only images of files have contents that this host reads: see FSType, which is erofs for
// them.
func (i Image) CopyOut(ctx context.Context, dir, to string) (left []string, err error) {
	return image.Image{ID: i.ID, FSType: i.FSType, Path: i.Path}.Extract(ctx, dir, to)
}

func describeImages(all []image.Image) []Image {
	out := make([]Image, len(all))
	for i, img := range all {
		out[i] = describeImage(img)
	}
	return out
}

// Command returns the image's command: its entry point, followed by args or, without
// args, by its own arguments. It is empty if the image has no command.
func (c ImageConfig) Command(args ...string) []string {
	if len(args) == 0 {
		args = c.Cmd
	}
	return append(append([]string(nil), c.Entrypoint...), args...)
}
