package sandbox

import (
	"context"
	"io"
	"slices"
	"time"

	"github.com/agentd-go/agentd/internal/image"
)

// ErrNoImage is found in the error when the cache has no image of a name.
var ErrNoImage = image.ErrNoImage

// An Image is a root that machines can start from, in the cache.
type Image struct {
	ID       string      `json:"id"`    // sha256:HEX
	Names    []string    `json:"names"` // NAME:TAG
	FSType   string      `json:"fstype"`
	Size     int64       `json:"size"` // Bytes on the host's disk.
	Source   string      `json:"source"`
	Imported time.Time   `json:"imported"`
	Path     string      `json:"path"` // The file with the file system, only to be read.
	Layers   []string    `json:"layers"`
	Config   ImageConfig `json:"config"`
}

// An ImageConfig is what an image says of how to run it.
type ImageConfig struct {
	Architecture string            `json:"architecture,omitempty"`
	OS           string            `json:"os,omitempty"`
	Variant      string            `json:"variant,omitempty"` // Of amd64: v1 to v4.
	Created      time.Time         `json:"created,omitzero"`
	User         string            `json:"user,omitempty"`
	Env          []string          `json:"env,omitempty"`
	Entrypoint   []string          `json:"entrypoint,omitempty"`
	Cmd          []string          `json:"cmd,omitempty"`
	WorkingDir   string            `json:"working_dir,omitempty"`
	Labels       map[string]string `json:"labels,omitempty"`

	// What follows is for whoever runs the image: a machine does not act on it.

	Volumes      []string     `json:"volumes,omitempty"`       // Paths whose content is to outlive a container.
	ExposedPorts []string     `json:"exposed_ports,omitempty"` // PORT[/tcp|udp].
	StopSignal   string       `json:"stop_signal,omitempty"`   // A name or a number; "" is SIGTERM.
	Healthcheck  *Healthcheck `json:"healthcheck,omitempty"`   // nil for none.
}

// A Healthcheck is the command that says whether what an image runs is well. Durations
// and retries of zero are the defaults of containers' tools.
type Healthcheck struct {
	// Test is NONE; or CMD and a command's words; or CMD-SHELL and a line for a shell.
	Test          []string      `json:"test"`
	Interval      time.Duration `json:"interval_ns,omitempty"` // From the end of a check to the next.
	Timeout       time.Duration `json:"timeout_ns,omitempty"`
	StartPeriod   time.Duration `json:"start_period_ns,omitempty"`   // In which failures do not count.
	StartInterval time.Duration `json:"start_interval_ns,omitempty"` // In place of Interval meanwhile.
	Retries       int           `json:"retries,omitempty"`           // Failures one after the other that make it unhealthy.
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

// withCache opens the cache for one operation.
func withCache[T any](do func(*image.Cache) (T, error)) (v T, err error) {
	c, err := image.Open("")
	if err != nil {
		return v, err
	}
	return do(c)
}

// ImportImage puts an image into the cache: a directory, an archive of docker
// save, an OCI archive or layout, an archive of a root, a disk image with a file
// system, or what a registry has at a reference. A path wins over a reference, and
// SOURCE:NAME is one image of an archive or a layout with several. The image gets the
// name; "" are the names that it brings along.
func ImportImage(ctx context.Context, source, name string) (Image, error) {
	return withCache(func(c *image.Cache) (Image, error) {
		o, err := ImageOptions{}.choose()
		if err != nil {
			return Image{}, err
		}
		o.Name, o.Want.One = name, true
		all, err := c.ImportImages(ctx, source, o)
		return firstImage(describeImages(all), err)
	})
}

// ImportImages is ImportImage for all images of an archive or a layout. A name is only
// for one.
func ImportImages(ctx context.Context, source, name string, o ImageOptions) ([]Image, error) {
	return withCache(func(c *image.Cache) ([]Image, error) {
		chosen, err := o.choose()
		if err != nil {
			return nil, err
		}
		chosen.Name = name
		all, err := c.ImportImages(ctx, source, chosen)
		return describeImages(all), err
	})
}

func firstImage(all []Image, err error) (Image, error) {
	if err != nil {
		return Image{}, err
	}
	return all[0], nil
}

// SaveImages writes images of the cache to one archive, as docker save does, which docker
// load and [ImportImages] read. Each has the name by which it is asked for, and none if
// that is an ID. Its root is one layer, so that its ID is another. Sockets are left out,
// with a line of [WithImportNotes]; a disk that is no EROFS is refused.
func SaveImages(ctx context.Context, to io.Writer, namesOrIDs ...string) error {
	_, err := withCache(func(c *image.Cache) (struct{}, error) { return struct{}{}, c.SaveImages(ctx, to, namesOrIDs...) })
	return err
}

// WithImportProgress returns a context whose imports of images say how far they are:
// how many bytes of layers, as they are stored, were read, and how many there are.
// Tell is called for every piece, by several goroutines at once: it must be quick.
func WithImportProgress(ctx context.Context, tell func(done, all int64)) context.Context {
	return image.WithProgress(ctx, tell)
}

// WithImportNotes returns a context whose imports of images say, in a line each, what
// of a source the image does not have, though the image is good: extended attributes
// that it cannot have. Say is called by the goroutine of the import.
func WithImportNotes(ctx context.Context, say func(line string)) context.Context {
	return image.WithNotes(ctx, say)
}

// UseImage finds an image of the cache as [FindImage] does, and imports it if
// there is none: nameOrSource is then a path or a reference.
func UseImage(ctx context.Context, nameOrSource string) (Image, error) {
	return ChooseImage(ctx, nameOrSource, ImageOptions{})
}

// ChooseImage is UseImage with options.
func ChooseImage(ctx context.Context, nameOrSource string, o ImageOptions) (Image, error) {
	return withCache(func(c *image.Cache) (Image, error) {
		chosen, err := o.choose()
		if err != nil {
			return Image{}, err
		}
		i, err := c.UseImage(ctx, nameOrSource, chosen)
		return describeImage(i), err
	})
}

// TagImage gives an image of the cache one more name, which another may have had.
func TagImage(nameOrID, name string) (Image, error) {
	return withCache(func(c *image.Cache) (Image, error) {
		i, err := c.TagImage(nameOrID, name)
		return describeImage(i), err
	})
}

// FindImage finds an image of the cache by a name, or by its ID or the first
// characters of that, eight at least.
func FindImage(nameOrID string) (Image, error) {
	return withCache(func(c *image.Cache) (Image, error) {
		i, err := c.Image(nameOrID)
		return describeImage(i), err
	})
}

// Images lists the images of the cache, the newest import first.
func Images() ([]Image, error) {
	return withCache(func(c *image.Cache) ([]Image, error) {
		all, err := c.Images()
		return describeImages(all), err
	})
}

// RemoveImage removes a name, and the image with its last name; or, given an ID,
// the image with all names. Machines that run go on.
func RemoveImage(nameOrID string) error {
	_, err := withCache(func(c *image.Cache) (struct{}, error) { return struct{}{}, c.RemoveImage(nameOrID) })
	return err
}

// PruneImages removes images without a name, but for those with the given IDs, and
// returns them.
func PruneImages(keep ...string) ([]Image, error) {
	return withCache(func(c *image.Cache) ([]Image, error) {
		all, err := c.PruneImages(keep...)
		return describeImages(all), err
	})
}

// Is reports whether a name, with or without its tag, is one of the image's.
func (i Image) Is(name string) bool {
	full, err := image.FullName(name)
	return err == nil && slices.Contains(i.Names, full)
}

func describeImages(all []image.Image) []Image {
	out := make([]Image, len(all))
	for i, img := range all {
		out[i] = describeImage(img)
	}
	return out
}

// Command is what the image runs: its entry point, and args or, without any, its
// own arguments. It is empty for an image that says nothing.
func (c ImageConfig) Command(args ...string) []string {
	if len(args) == 0 {
		args = c.Cmd
	}
	return append(append([]string(nil), c.Entrypoint...), args...)
}
