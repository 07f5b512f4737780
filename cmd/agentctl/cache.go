package main

import (
	"time"

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

func findImage(nameOrID string) (sandbox.Image, error) {
	return inCache(func(c *sandbox.Cache) (sandbox.Image, error) { return c.FindImage(nameOrID) })
}

// deleteImage removes a name of an image, or the image.
func deleteImage(nameOrID string) error {
	c, err := sandbox.OpenCache("")
	if err != nil {
		return err
	}
	return c.RemoveImage(nameOrID)
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
