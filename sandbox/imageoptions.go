package sandbox

import (
	"context"
	"fmt"
	"io"

	"github.com/agentd-go/agentd/internal/image"
)

// A Pull says when to ask a registry for an image.
type Pull string

// The values of a Pull.
const (
	PullMissing Pull = "missing" // If the cache has no image of that name; the same as "".
	PullAlways  Pull = "always"  // Instead of the cache, except for paths.
	PullNever   Pull = "never"
)

// ImportOptions select one of several images, its possible sources and its name. The
// zero value selects the best variant that this host's machines run, from any source,
// and keeps the image's own names.
type ImportOptions struct {
	Name string // The image's name; [Cache.UseImage] does not take it.
	// Platform is OS/ARCHITECTURE[/VARIANT]: linux on amd64 or arm64; "" is this host's.
	// The variant, for amd64 v1 to v4 and for arm64 v8, is the highest allowed one; the
	// default is the best that machines have. A root without a configuration gets it.
	Platform string
	Pull     Pull
	// Accel is the machine's accelerator, which determines its variants.
	Accel Accel

	// Input, if it is set, is read to its end as the file of the source, which is then a
	// name for messages, such as "-", or "-:NAME" for one image of several. It is for
	// [Cache.ImportImage] and [Cache.ImportImages]. After an import that ctx has ended, a
	// goroutine may still be in one Read.
	Input io.Reader

	// Progress, if set, is called with the number of stored bytes of layers that were
	// read, and with their total. Several goroutines call it at once, for every piece,
	// so it must be quick.
	Progress func(done, all int64)
	// Notes, if set, is called with a line for each part of a source that the image
	// lacks, such as extended attributes that it cannot have. Such an image is still
	// usable. The importing goroutine calls it.
	Notes func(line string)
}

// attend returns a context whose imports call the functions of the options.
func (o ImportOptions) attend(ctx context.Context) context.Context {
	if o.Progress != nil {
		ctx = image.WithProgress(ctx, o.Progress)
	}
	if o.Notes != nil {
		ctx = image.WithNotes(ctx, o.Notes)
	}
	return ctx
}

// choose checks the options and converts them.
func (o ImportOptions) choose() (chosen image.ImportOptions, err error) {
	accel, err := Config{Accel: o.Accel}.accel()
	if err != nil {
		return chosen, err
	}
	w, err := want(o.Platform, accel)
	if err != nil {
		return chosen, err
	}
	switch o.Pull {
	case "", PullMissing, PullAlways, PullNever:
	default:
		return chosen, fmt.Errorf("pull %q: want %s, %s or %s", o.Pull, PullAlways, PullMissing, PullNever)
	}
	return image.ImportOptions{Name: o.Name, Want: w, Registry: o.Pull == PullAlways, Local: o.Pull == PullNever, Input: o.Input}, nil
}

// Check reports an invalid option.
func (o ImportOptions) Check() error {
	_, err := o.choose()
	return err
}
