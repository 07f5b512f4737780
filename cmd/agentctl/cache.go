package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/agentd-go/agentd/internal/machines"
	"github.com/agentd-go/agentd/sandbox"
)

// inCache calls one function with the user's cache.
func inCache[T any](do func(*sandbox.Cache) (T, error)) (v T, err error) {
	c, err := sandbox.OpenCache("")
	if err != nil {
		return v, err
	}
	return do(c)
}

// inStore makes the function of a command from one that needs the user's machines.
func inStore(do func(cmd *cobra.Command, store *machines.Store, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		store, err := machines.Open("")
		if err != nil {
			return err
		}
		return do(cmd, store, args)
	}
}

func findImage(nameOrID string) (sandbox.Image, error) {
	return inCache(func(c *sandbox.Cache) (sandbox.Image, error) { return c.FindImage(nameOrID) })
}

// deleteImage removes a name of an image, or the image.
func deleteImage(nameOrID string) error {
	_, err := inCache(func(c *sandbox.Cache) (any, error) { return nil, c.RemoveImage(nameOrID) })
	return err
}

// pruneInitramfs removes, or only counts, initramfs files from which no machine has
// started lately.
func pruneInitramfs(pretend bool) (sandbox.Use, error) {
	return inCache(func(c *sandbox.Cache) (sandbox.Use, error) {
		return c.PruneInitramfs(time.Now().Add(-unusedFor), pretend)
	})
}

// pruneTemplates removes, or only counts, those that no machine was started from since a
// time.
func pruneTemplates(since time.Time, pretend bool) (sandbox.Use, error) {
	return inCache(func(c *sandbox.Cache) (sandbox.Use, error) { return c.PruneTemplates(since, pretend) })
}
