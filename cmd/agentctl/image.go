package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/agentd-go/agentd/internal/machines"
	"github.com/agentd-go/agentd/internal/transfer"
	"github.com/agentd-go/agentd/sandbox"
)

func newImage() *cobra.Command {
	return group("image", "Manage the images that machines start from", "",
		newImageImport(), newPull(), newImageTag(), newImageSave(), newImageList(), newImageInspect(), newImageRemove(), newImagePrune())
}

// untilSignal runs do with a context that the first ^C ends.
func untilSignal(ctx context.Context, do func(context.Context) error) error {
	ctx, signals := catchSignals(ctx)
	defer signals.stop()
	return ended(ctx, do(ctx))
}

// shortID returns as many digits of an ID as container tools show.
func shortID(id string) string {
	const digits = 12
	id = strings.TrimPrefix(id, "sha256:")
	return id[:min(len(id), digits)]
}

func newImageInspect() *cobra.Command {
	return offerDetails(&cobra.Command{
		Use:   "inspect [-f TEMPLATE] NAME...",
		Short: "Print all details of images",
		Long: `Print images as a JSON array, or each by a template. The fields are id, names, fstype,
size, source, imported, path, layers, and config with user, env, entrypoint, cmd,
working_dir, labels, volumes, exposed_ports, stop_signal and healthcheck. NAME is a
name, or the first eight or more digits of an ID.
` + exitHelp(plainExit),
	}, findImage, func(i sandbox.Image) any { return imageDetails{i} })
}

func newImageRemove() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "rm [-f] NAME...",
		Short: "Remove images",
		Long: `Remove names. An image is removed with its last name; an ID removes an image with all
its names. Without -f an image is refused if a machine is made from it. With -f such a
machine continues to run, but cannot be started again.
` + exitHelp(plainExit),
		RunE: func(cmd *cobra.Command, args []string) error {
			gone, err := forEach(args, func(name string) (imageRemoval, error) { return removeImage(name, force) })
			if wantsJSON(cmd) {
				err = errors.Join(err, writeJSON(os.Stdout, gone))
			}
			return err
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "even if machines use it")
	return offerJSON(cmd)
}

// An imageRemoval is an image in the output of image rm --json.
type imageRemoval struct {
	Name    string `json:"name"` // The name in the command.
	ID      string `json:"id"`
	Deleted bool   `json:"deleted"` // It was the image's last name.
}

func removeImage(name string, force bool) (r imageRemoval, err error) {
	cache, err := sandbox.OpenCache("")
	if err != nil {
		return r, err
	}
	i, err := cache.FindImage(name)
	if err != nil {
		return r, err
	}
	users, err := usersOfImages()
	if err != nil {
		return r, err
	}
	last := len(i.Names) < 2 || !i.Is(name)
	if used := users[i.ID]; last && used != nil && !force {
		return r, fmt.Errorf("image %s: machine %s is made of it; remove that first, or run 'agentctl image rm -f %s'", name, strings.Join(used, ", "), name)
	}
	return imageRemoval{name, i.ID, last}, cache.RemoveImage(name)
}

// usersOfImages returns the names of machines by the IDs of their images.
func usersOfImages() (map[string][]string, error) {
	store, err := machines.Open("")
	if err != nil {
		return nil, err
	}
	all, err := store.List()
	users := map[string][]string{}
	for _, m := range all {
		if id := m.Record().Config.Image; id != "" {
			users[id] = append(users[id], m.Name())
		}
	}
	return users, err
}

func newImagePrune() *cobra.Command {
	var asJSON, named bool
	cmd := &cobra.Command{
		Use:   "prune [-a]",
		Short: "Remove the images that have no name",
		Long: `Remove the images that have no name and from which no machine is made. An image has no
name if it was run from a file or a directory, or if another image has got its name.
With -a images with a name are removed too. The command does not ask.
` + exitHelp(plainExit),
		RunE: func(*cobra.Command, []string) error {
			users, err := usersOfImages()
			if err != nil {
				return err
			}
			removed, err := inCache(func(c *sandbox.Cache) ([]sandbox.Image, error) {
				return c.PruneImages(slices.Collect(maps.Keys(users))...)
			})
			if err == nil && named {
				var more []sandbox.Image
				more, err = removeUnused(users)
				removed = append(removed, more...)
			}
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(os.Stdout, removed)
			}
			var bytes int64
			for _, i := range removed {
				bytes += i.Size
			}
			fmt.Fprintf(os.Stderr, "removed %d images, %s\n", len(removed), transfer.Size(bytes))
			return nil
		},
	}
	cmd.Flags().BoolVarP(&named, "all", "a", false, "include images with a name")
	cmd.Flags().BoolP("force", "f", false, "accepted for compatibility; it never asks")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the removed images as a list, in the form of 'image inspect'")
	return cmd
}

// removeUnused removes all images that no machine uses.
func removeUnused(users map[string][]string) (removed []sandbox.Image, err error) {
	all, err := inCache((*sandbox.Cache).Images)
	if err != nil {
		return nil, err
	}
	for _, i := range all {
		if users[i.ID] != nil {
			continue
		}
		if err := deleteImage(i.ID); err != nil {
			return removed, err
		}
		removed = append(removed, i)
	}
	return removed, nil
}
