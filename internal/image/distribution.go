package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strings"
)

// metaPackages name the newest small kernel of a distribution for an architecture:
// Debian's for clouds, Ubuntu's for virtual machines.
func metaPackages(architecture string) []string {
	return []string{"linux-image-cloud-" + architecture, "linux-image-virtual"}
}

// busyboxPackage is the name of the package with a static busybox in Debian and Ubuntu.
const busyboxPackage = "busybox-static"

// ErrNoPackages is FetchKernel's error on a host without apt.
var ErrNoPackages = errors.New("kernels are fetched by apt-get, which is not here")

// FetchKernel downloads the newest small kernel of the host's distribution for an
// architecture, by Go's name, with its modules, and imports it. It installs nothing, because an installation would change
// what the host boots. It needs no root privilege. It fetches the package lists into
// the cache, because the host's own lists may name packages that the distribution no
// longer has.
//
// For another architecture than this host's it also downloads a static busybox, which is
// the root of machines without an image, unless the cache has one.
func (c *Cache) FetchKernel(ctx context.Context, architecture string) (Kernel, error) {
	k, err := c.fetchKernel(ctx, architecture)
	if err != nil {
		return Kernel{}, fmt.Errorf("fetch kernel: %w", err)
	}
	return k, nil
}

func (c *Cache) fetchKernel(ctx context.Context, architecture string) (k Kernel, err error) {
	err = c.withApt(ctx, architecture, func(a *apt) error {
		packages, err := a.kernelPackages(ctx)
		if err != nil {
			return err
		}
		files, err := a.fetch(ctx, packages...)
		if err != nil {
			return err
		}
		if k, err = c.ImportKernel(files...); err != nil || architecture == runtime.GOARCH {
			return err
		}
		return c.fetchBusybox(ctx, a)
	})
	return k, err
}

// FetchBusybox downloads a static busybox for an architecture into the cache, unless it
// is there. Machines for another architecture than this host's use it as their root.
func (c *Cache) FetchBusybox(ctx context.Context, architecture string) error {
	if _, err := c.FindBusybox(architecture); err == nil {
		return nil
	}
	err := c.withApt(ctx, architecture, func(a *apt) error { return c.fetchBusybox(ctx, a) })
	if err != nil {
		return fmt.Errorf("fetch busybox: %w", err)
	}
	return nil
}

func (c *Cache) fetchBusybox(ctx context.Context, a *apt) error {
	_, err := c.Dir(busyboxKind, a.architecture, func(dir string) error {
		files, err := a.fetch(ctx, busyboxPackage)
		if err != nil {
			return err
		}
		program := filepath.Join(dir, "busybox")
		if err := unpackBusybox(program, files[0]); err != nil {
			return err
		}
		_, err = staticMachine(program)
		return err
	})
	return err
}

// unpackBusybox writes the program of a package to a file.
func unpackBusybox(to, deb string) error {
	f, err := os.Open(deb)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	return walkDeb(f, func(name string, r io.Reader) error {
		if name = strings.TrimPrefix(name, "usr/"); name != "bin/busybox" {
			return nil
		}
		b, err := readBounded(r, busyboxBytes)
		if err != nil {
			return err
		}
		return os.WriteFile(to, b, 0o755) //nolint:gosec // A program.
	})
}

// withApt calls use with the fresh lists of the distribution's packages.
func (c *Cache) withApt(ctx context.Context, architecture string, use func(*apt) error) error {
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("%w; download the kernel's package yourself, then run: agentctl kernel import FILE", ErrNoPackages)
	}
	s, err := c.scratch("apt")
	if err != nil {
		return err
	}
	defer s.remove()
	a, err := newApt(s.dir, architecture)
	if err != nil {
		return err
	}
	if _, err := a.run(ctx, "apt-get", "update", "-q"); err != nil {
		return err
	}
	return use(a)
}

// An apt runs apt's tools with a state directory of its own.
type apt struct {
	dir          string
	architecture string // Debian's name, which is Go's for amd64 and arm64.
	args         []string
}

func newApt(dir, architecture string) (*apt, error) {
	for _, sub := range []string{"lists/partial", "archives/partial"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return nil, err
		}
	}
	who, err := user.Current()
	if err != nil {
		return nil, err
	}
	return &apt{dir, architecture, append(foreign(architecture), []string{
		"-o", "Dir::State::Lists=" + filepath.Join(dir, "lists"),
		"-o", "Dir::Cache=" + dir,
		// Otherwise apt changes to its own user, which may not write here.
		"-o", "APT::Sandbox::User=" + who.Username,
	}...)}, nil
}

// foreign makes apt work for another architecture than this host's, whose installed
// packages then do not count.
func foreign(architecture string) []string {
	if architecture == runtime.GOARCH {
		return nil
	}
	return []string{
		"-o", "APT::Architecture=" + architecture, "-o", "APT::Architectures=" + architecture,
		"-o", "Dir::State::status=" + os.DevNull,
	}
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

// fetch downloads packages and returns their files.
func (a *apt) fetch(ctx context.Context, packages ...string) (files []string, err error) {
	dir, err := os.MkdirTemp(a.dir, "packages-")
	if err != nil {
		return nil, err
	}
	there := *a
	there.dir = dir
	if _, err := there.run(ctx, "apt-get", append([]string{"download", "-q"}, packages...)...); err != nil {
		return nil, err
	}
	files, err = filepath.Glob(filepath.Join(dir, "*.deb"))
	if err == nil && len(files) != len(packages) {
		err = fmt.Errorf("apt-get download %s: %d files", strings.Join(packages, " "), len(files))
	}
	return files, err
}

// kernelPackages returns the package with the kernel that the metapackage depends on,
// and the package with its modules if that is a separate one.
func (a *apt) kernelPackages(ctx context.Context) ([]string, error) {
	for _, meta := range metaPackages(a.architecture) {
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
	return nil, fmt.Errorf("the distribution has neither %s", strings.Join(metaPackages(a.architecture), " nor "))
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
