package main

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/agentd-go/agentd/internal/machines"
	"github.com/agentd-go/agentd/sandbox"
)

// makeVolumes makes the missing volumes. An empty volume gets the files that the image,
// which may be nil, has at its place.
func (f *creator) makeVolumes(ctx context.Context, store *machines.Store, mounts []sandbox.Mount, image *sandbox.Image) error {
	uncopied := f.uncopied()
	for _, m := range mounts {
		name, ok := store.VolumeOf(m.Source)
		if !ok {
			continue
		}
		if _, _, err := store.MakeVolume(name, nil); err != nil {
			return err
		}
		if image == nil || slices.Contains(uncopied, path.Clean(m.Target)) {
			continue
		}
		if err := fillVolume(ctx, store, name, *image, m.Target); err != nil {
			return err
		}
	}
	return nil
}

// uncopied returns the targets for which the user wants no copy of the image's files.
func (f *creator) uncopied() (targets []string) {
	const parts = 3 // NAME:GUEST:OPTIONS.
	for _, s := range f.mounts {
		if w := strings.Split(s, ":"); len(w) == parts && slices.Contains(strings.Split(w[2], ","), "nocopy") {
			targets = append(targets, path.Clean(w[1]))
		}
	}
	for _, s := range f.specs {
		if m, err := machines.ParseMountSpec(s); err == nil && m.NoCopy {
			targets = append(targets, path.Clean(m.Bind.Target))
		}
	}
	return targets
}

// fillVolume copies the image's files at a path to a volume without files.
func fillVolume(ctx context.Context, store *machines.Store, name string, image sandbox.Image, at string) error {
	if image.FSType != "erofs" {
		tellNotes(ctx, fmt.Sprintf("volume %s: the image is a disk with %s, so nothing of it is copied there", name, image.FSType))
		return nil
	}
	var left []string
	_, err := store.FillVolume(name, func(dir string) (err error) {
		left, err = image.CopyOut(ctx, at, dir)
		if errors.Is(err, sandbox.ErrNotInImage) {
			return nil
		}
		return err
	})
	for _, line := range left {
		tellNotes(ctx, fmt.Sprintf("volume %s: %s", name, line))
	}
	return err
}
