package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
)

// metaPackages name the newest small kernel of a distribution: Debian's for clouds,
// Ubuntu's for virtual machines.
var metaPackages = []string{"linux-image-cloud-amd64", "linux-image-virtual"}

// ErrNoPackages is FetchKernel's error on a host without apt.
var ErrNoPackages = errors.New("kernels are fetched by apt-get, which is not here")

// FetchKernel downloads the newest small kernel of the host's distribution with its
// modules, and imports it. It installs nothing, because an installation would change
// what the host boots. It needs no root privilege. It fetches the package lists into
// the cache, because the host's own lists may name packages that the distribution no
// longer has.
func (c *Cache) FetchKernel(ctx context.Context) (Kernel, error) {
	k, err := c.fetchKernel(ctx)
	if err != nil {
		return Kernel{}, fmt.Errorf("fetch kernel: %w", err)
	}
	return k, nil
}

func (c *Cache) fetchKernel(ctx context.Context) (Kernel, error) {
	if _, err := exec.LookPath("apt-get"); err != nil {
		return Kernel{}, fmt.Errorf("%w; download the kernel's package yourself, then run: agentctl kernel import FILE", ErrNoPackages)
	}
	s, err := c.scratch("apt")
	if err != nil {
		return Kernel{}, err
	}
	defer s.remove()
	a, err := newApt(s.dir)
	if err != nil {
		return Kernel{}, err
	}
	if err := a.download(ctx); err != nil {
		return Kernel{}, err
	}
	files, err := filepath.Glob(filepath.Join(s.dir, "*.deb"))
	if err != nil {
		return Kernel{}, err
	}
	return c.ImportKernel(files...)
}

// An apt runs apt's tools with a state directory of its own.
type apt struct {
	dir  string
	args []string
}

func newApt(dir string) (*apt, error) {
	for _, sub := range []string{"lists/partial", "archives/partial"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return nil, err
		}
	}
	who, err := user.Current()
	if err != nil {
		return nil, err
	}
	return &apt{dir, []string{
		"-o", "Dir::State::Lists=" + filepath.Join(dir, "lists"),
		"-o", "Dir::Cache=" + dir,
		// Otherwise apt changes to its own user, which may not write here.
		"-o", "APT::Sandbox::User=" + who.Username,
	}}, nil
}

// run returns the standard output of one of apt's tools. Its error holds the tool's
// standard error.
func (a *apt) run(ctx context.Context, tool string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, tool, append(a.args, args...)...)
	cmd.Dir = a.dir
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", tool, strings.Join(args, " "), err, bytes.TrimSpace(said.Bytes()))
	}
	return string(out), nil
}

func (a *apt) download(ctx context.Context) error {
	if _, err := a.run(ctx, "apt-get", "update", "-q"); err != nil {
		return err
	}
	packages, err := a.kernelPackages(ctx)
	if err != nil {
		return err
	}
	_, err = a.run(ctx, "apt-get", append([]string{"download", "-q"}, packages...)...)
	return err
}

// kernelPackages returns the package with the kernel that the metapackage depends on,
// and the package with its modules if that is a separate one.
func (a *apt) kernelPackages(ctx context.Context) ([]string, error) {
	for _, meta := range metaPackages {
		depends, err := a.run(ctx, "apt-cache", "depends", meta)
		if err != nil {
			continue // A name of another distribution.
		}
		kernel := dependedKernel(depends)
		if kernel == "" {
			continue
		}
		modules := "linux-modules-" + strings.TrimPrefix(kernel, kernelPackage)
		if shown, err := a.run(ctx, "apt-cache", "show", modules); err == nil && strings.Contains(shown, "Package:") {
			return []string{kernel, modules}, nil
		}
		return []string{kernel}, nil
	}
	return nil, fmt.Errorf("the distribution has neither %s", strings.Join(metaPackages, " nor "))
}

const kernelPackage = "linux-image-"

// dependedKernel finds linux-image-VERSION in the output of "apt-cache depends".
func dependedKernel(depends string) string {
	for line := range strings.Lines(depends) {
		name, found := strings.CutPrefix(strings.TrimSpace(line), "Depends: ")
		version, isKernel := strings.CutPrefix(name, kernelPackage)
		if found && isKernel && version != "" && version[0] >= '0' && version[0] <= '9' {
			return name
		}
	}
	return ""
}
