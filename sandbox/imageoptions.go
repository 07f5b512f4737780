package sandbox

import (
	"fmt"

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

// ImageOptions say which image of several is meant, and where it may come from. The
// zero value is the best that this host's machines run, from wherever it is.
type ImageOptions struct {
	// Platform is OS/ARCHITECTURE[/VARIANT]. Machines run linux on the host's kind of
	// processor; of amd64 a variant, v1 to v4, is the most that is taken. Without one
	// it is the best that machines have.
	Platform string
	Pull     Pull
	// Accel is that of the machine, which decides which variants it has.
	Accel Accel
}

// choose checks the options.
func (o ImageOptions) choose() (chosen image.ImportOptions, err error) {
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
	return image.ImportOptions{Want: w, Registry: o.Pull == PullAlways, Local: o.Pull == PullNever}, nil
}

// Check reports an option that is not possible.
func (o ImageOptions) Check() error {
	_, err := o.choose()
	return err
}
