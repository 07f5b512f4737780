package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/agentd-go/agentd/internal/image"
	"github.com/agentd-go/agentd/internal/reference"
	"github.com/agentd-go/agentd/wire"
)

// An opponent is an agent that is measured.
type opponent struct {
	name        string
	environment bool   // Configured by variables, not by a message.
	binary      []byte // The program that runs as the first process.
	generation  wire.Generation
}

const (
	ourName  = "ours"
	baseName = "0.5.5" // The agent that ratios refer to; see opponents.
	armBase  = "0.6.8" // The same on arm64.
)

// base returns the agent that ratios refer to.
func base(architecture string) string {
	if architecture == "arm64" {
		return armBase
	}
	return baseName
}

// unpacked names a directory of unpacked packages, DIR/VERSION/package, as for
// the tests.
const unpacked = "AGENTD_REFERENCE"

// opponents prepares the agents that a list names: ours built from this tree,
// published ones by their version, any other as NAME=FILE.
func opponents(ctx context.Context, cache *image.Cache, dir string, opt options) (all []*opponent, err error) {
	for _, word := range opt.agents {
		name, path, given := strings.Cut(word, "=")
		o := &opponent{name: name, environment: name == baseName || name == armBase}
		switch {
		case given:
			o.binary, err = os.ReadFile(path)
		case name == ourName:
			o.binary, err = buildGuest(ctx, dir, opt.architecture, "./cmd/agentd", opt.tags(), opt.symbols())
		default:
			o.binary, err = published(ctx, cache, opt.architecture, name)
		}
		if err != nil {
			return nil, fmt.Errorf("agent %s: %w", name, err)
		}
		all = append(all, o)
	}
	return all, nil
}

// buildGuest builds a program for the guest as a release is built, with symbols if they are asked for.
func buildGuest(ctx context.Context, dir, architecture, what, tags string, symbols bool) ([]byte, error) {
	path, linker := filepath.Join(dir, filepath.Base(what)), "-s -w"
	if symbols {
		linker = "-w"
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-tags", tags, "-trimpath", "-ldflags", linker, "-o", path, what)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+architecture)
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build %s: %w\n%s", what, err, out)
	}
	return os.ReadFile(path)
}

func published(ctx context.Context, cache *image.Cache, architecture, version string) ([]byte, error) {
	release, err := release(ctx, cache, architecture, version)
	if err != nil {
		return nil, err
	}
	return reference.ExtractAgent(release.Program)
}

func release(ctx context.Context, cache *image.Cache, architecture, version string) (reference.Release, error) {
	dir := os.Getenv(unpacked)
	if dir == "" {
		dir = filepath.Join(cache.Path(), "packages")
	}
	if architecture != runtime.GOARCH {
		version += "-" + architecture
	}
	dir = filepath.Join(dir, version, "package")
	if _, err := os.Stat(dir); err == nil { //nolint:gosec // G703: the user names the directory.
		return reference.OpenRelease(version, dir)
	}
	return reference.Fetch(ctx, cache, architecture, strings.TrimSuffix(version, "-"+architecture))
}

// referenceKernel is the newest kernel from a libkrunfw library: the one that the
// published agents run on.
func referenceKernel(cache *image.Cache, architecture string) (image.Kernel, error) {
	all, err := cache.Kernels()
	if err != nil {
		return image.Kernel{}, err
	}
	for _, k := range all {
		if strings.HasPrefix(k.Name, "krunfw") && k.Architecture == architecture {
			return k, nil
		}
	}
	return image.Kernel{}, fmt.Errorf("%w of the published agents in the cache: run \"make setup-test\"", image.ErrNoKernel)
}
