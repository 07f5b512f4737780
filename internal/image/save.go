package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/agentd-go/agentd/internal/image/oci"
)

// ErrNotSaved says that no archive can hold the image.
var ErrNotSaved = errors.New("only an image of files can be saved")

// SaveImages writes images of the cache to one archive, as docker save does. Each has
// the name that the caller gives, or none if that is an ID. It has one layer and the
// configuration of its [Image], so its ID differs from the original's.
func (c *Cache) SaveImages(ctx context.Context, to io.Writer, namesOrIDs ...string) error {
	unlock, err := c.lockImports() // Excludes removals.
	if err != nil {
		return err
	}
	defer unlock()
	var all []oci.Saved
	for _, name := range namesOrIDs {
		s, err := c.saved(ctx, name)
		if err != nil {
			return err
		}
		all = append(all, s)
	}
	if err := oci.Save(to, all); err != nil {
		return fmt.Errorf("save images: %w", err)
	}
	return nil
}

func (c *Cache) saved(ctx context.Context, nameOrID string) (s oci.Saved, err error) {
	i, err := c.Image(nameOrID)
	if err != nil {
		return s, err
	}
	if i.FSType != fsErofs {
		return s, fmt.Errorf("image %s: %w; this one is a disk with %s: copy %s", nameOrID, ErrNotSaved, i.FSType, i.Path)
	}
	if full, err := FullName(nameOrID); err == nil && slices.Contains(i.Names, full) {
		s.Names = []string{full}
	}
	s.Config = i.Config
	told := map[string]bool{} // The layer is written twice.
	s.Layer = func(to io.Writer) error {
		f, err := os.Open(i.Path)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		return writeLayer(ctx, f, to, func(socket string) {
			if !told[socket] {
				noteLine(ctx, "left out: socket "+socket+", which an archive cannot have")
			}
			told[socket] = true
		})
	}
	return s, nil
}
