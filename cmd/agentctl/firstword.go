package main

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/agentd-go/agentd/sandbox"
)

// takeImage takes the first word as the image, as container tools do, if it cannot be a
// program. After -- it is always a program, and also if the machine has a root.
func (r *runner) takeImage(args []string, dashed bool) (rest []string, err error) {
	if r.Image != "" || r.Root != "" || dashed || len(args) == 0 {
		return args, nil
	}
	word := args[0]
	if strings.HasPrefix(word, "/") || strings.HasPrefix(word, ".") {
		return args, nil
	}
	if there, err := sandbox.SmallRootHas(word); there || err != nil {
		return args, err
	}
	_, err = findImage(word)
	switch {
	case err == nil || errors.Is(err, sandbox.ErrImageNotFound) && isReference(word):
		r.Image = word
		return args[1:], nil
	case !errors.Is(err, sandbox.ErrImageNotFound):
		return nil, err
	case strings.Contains(word, "/") || r.bringsPrograms():
		return args, nil
	}
	return nil, &statusError{exitNotFound, word + ": no program of the small root has that name, and no image ('agentctl image ls'); --image REFERENCE fetches one"}
}

// isReference reports whether a word can only mean an image of a registry: it has a
// tag or digest, or begins with a host.
func isReference(word string) bool {
	host, _, path := strings.Cut(word, "/")
	return strings.Contains(word, ":") || path && strings.Contains(host, ".")
}

// bringsPrograms reports whether mounts may bring further programs into the machine.
func (r *runner) bringsPrograms() bool {
	path := slices.ContainsFunc(r.nameFlags.env, func(e string) bool { return strings.HasPrefix(e, "PATH=") })
	return path || len(r.mounts)+len(r.specs)+len(r.disks)+len(r.envFile) > 0
}

// quietKey marks a context in which only errors are printed.
type quietKey struct{}

func quietly(ctx context.Context, quiet bool) context.Context {
	return context.WithValue(ctx, quietKey{}, quiet)
}

func isQuiet(ctx context.Context) bool {
	quiet, _ := ctx.Value(quietKey{}).(bool)
	return quiet
}

// tellNotes says lines, unless only errors are printed.
func tellNotes(ctx context.Context, lines ...string) {
	for _, line := range lines {
		if !isQuiet(ctx) {
			say(line)
		}
	}
}
