package sandbox

import (
	"context"
	"fmt"
	"io"

	"github.com/agentd-go/agentd/internal/image"
	"github.com/agentd-go/agentd/internal/vmm"
)

// A Pull says when a registry is asked for an image.
type Pull string

// What a Pull can be.
const (
	PullMissing Pull = "missing" // Where the cache has none of the name; so is "".
	PullAlways  Pull = "always"  // In place of the cache, but for paths.
	PullNever   Pull = "never"
)

// ImportOptions say which image of several is meant, where it may come from and how it
// is named. The zero value is the best that this host's machines run, from wherever it
// is, with the names that it brings along.
type ImportOptions struct {
	Name string // The image's name; it is not for [Cache.UseImage].
	// Platform is OS/ARCHITECTURE[/VARIANT]. Machines run linux on the host's kind of
	// processor; of amd64 a variant, v1 to v4, is the most that is taken. Without one
	// it is the best that machines have.
	Platform string
	Pull     Pull
	// Accel is that of the machine, which decides which variants it has.
	Accel Accel

	// Input, if it is set, is read to its end as the file of the source, which is then a
	// name for messages, such as "-", or "-:NAME" for one image of several. It is for
	// [Cache.ImportImage] and [Cache.ImportImages]. After an import that ctx has ended, a
	// goroutine may still be in one Read.
	Input io.Reader

	// Progress, if it is set, is told how many bytes of layers, as they are stored, were
	// read, and how many there are. It is called for every piece, by several goroutines
	// at once: it must be quick.
	Progress func(done, all int64)
	// Notes, if it is set, is given a line for each thing of a source that the image does
	// not have, though the image is good: extended attributes that it cannot have. It is
	// called by the goroutine of the import.
	Notes func(line string)
}

// attend has the functions of the options called by what ctx is for.
func (o ImportOptions) attend(ctx context.Context) context.Context {
	if o.Progress != nil {
		ctx = image.WithProgress(ctx, o.Progress)
	}
	if o.Notes != nil {
		ctx = image.WithNotes(ctx, o.Notes)
	}
	return ctx
}

// choose checks the options.
func (o ImportOptions) choose() (chosen image.ImportOptions, err error) {
	accel, err := Config{Accel: o.Accel}.accel()
	if err != nil {
		return chosen, err
	}
	w, err := image.Wanted(o.Platform, vmm.Level(accel))
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

// Check reports an option that is not possible.
func (o ImportOptions) Check() error {
	_, err := o.choose()
	return err
}
