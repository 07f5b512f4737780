package image

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// ErrNoKernel says that there is no kernel of that name, or no kernel at all.
var ErrNoKernel = errors.New("no kernel")

// minID is the shortest part of an ID that names a kernel.
const minID = 8

// A Kernel is something that a machine can boot.
type Kernel struct {
	Name     string      // The name that users give; not unique.
	ID       string      // Its directory in the cache; empty if it is not in the cache.
	Path     string      // The file for QEMU's -kernel.
	Release  string      // As uname -r says it.
	Console  string      // The console that needs no module: hvc0, ttyS0 or ttyAMA0.
	Initrd   bool        // It takes an initramfs.
	Modules  *ModuleTree // nil when none were found.
	Imported time.Time   // When it was last imported; zero when it is not from the cache.

	Architecture string // Go's name: amd64 or arm64.
	PageSize     int    // In bytes.
}

// Since reports whether the kernel is of that release or a newer one.
func (k Kernel) Since(major, minor int) bool {
	var has [2]int
	if n, err := fmt.Sscanf(k.Release, "%d.%d", &has[0], &has[1]); err != nil || n < len(has) {
		return false
	}
	return slices.Compare(has[:], []int{major, minor}) >= 0
}

// Kernels lists the kernels of the cache, the newest import first.
func (c *Cache) Kernels() ([]Kernel, error) {
	dirs, err := c.entriesOf(kernelKind)
	if err != nil {
		return nil, err
	}
	var all []Kernel
	for _, dir := range dirs {
		k, err := c.loadKernel(dir)
		if err != nil {
			return nil, err
		}
		all = append(all, k)
	}
	slices.SortStableFunc(all, func(a, b Kernel) int {
		return cmp.Or(b.Imported.Compare(a.Imported), cmp.Compare(a.ID, b.ID))
	})
	return all, nil
}

// loadKernel reads one kernel of the cache.
func (c *Cache) loadKernel(dir string) (Kernel, error) {
	r, err := readRecord[record](dir, kernelRecord)
	if err != nil {
		return Kernel{}, err
	}
	info, err := os.Stat(filepath.Join(dir, kernelRecord)) //nolint:gosec // G703: in the cache.
	if err != nil {
		return Kernel{}, err
	}
	k := r.kernel(filepath.Join(dir, filepath.Base(r.File)))
	k.ID, k.Imported = filepath.Base(dir), info.ModTime()
	if r.Initrd { // Without an initramfs no module can be loaded.
		k.Modules = findModules(r.Release, dir, c.host)
	}
	return k, nil
}

func (r record) kernel(path string) Kernel {
	return Kernel{
		Name: r.Name, Path: path, Release: r.Release, Console: r.Console, Initrd: r.Initrd,
		Architecture: cmp.Or(r.Architecture, archAMD64), PageSize: cmp.Or(r.PageSize, 4096),
	}
}

// Kernel is [Cache.KernelFor] for this host's architecture.
func (c *Cache) Kernel(nameOrPath string) (Kernel, error) {
	return c.KernelFor(runtime.GOARCH, nameOrPath)
}

// KernelFor finds a kernel for an architecture, by Go's name. The argument is a name or an ID (or its first
// characters) of the cache, or the path of any file that [Cache.ImportKernel]
// takes; libraries and packages are then imported. For a plain image, modules
// are looked for next to it, in lib/modules/RELEASE, then in the system.
//
// Empty is the default: the newest imported kernel that has modules, those made
// for virtual machines ("cloud" in their release) before others, else the
// newest one installed in /boot that may be read.
func (c *Cache) KernelFor(architecture, nameOrPath string) (Kernel, error) {
	all, err := c.Kernels()
	if err != nil {
		return Kernel{}, err
	}
	others := func(k Kernel) bool { return k.Architecture != architecture }
	fit := slices.DeleteFunc(slices.Clone(all), others)
	if nameOrPath == "" {
		return c.defaultKernel(architecture, fit)
	}
	if k, err := named(fit, nameOrPath); !errors.Is(err, ErrNoKernel) {
		return k, err
	}
	k, err := named(all, nameOrPath)
	if errors.Is(err, ErrNoKernel) && exists(nameOrPath) {
		k, err = c.kernelAt(nameOrPath)
	}
	switch {
	case err == nil && others(k):
		return Kernel{}, fmt.Errorf("kernel %s: it is for %s, and the machine is for %s: --platform linux/%s asks for one that it fits", nameOrPath, k.Architecture, architecture, k.Architecture)
	case !errors.Is(err, ErrNoKernel):
		return k, err
	}
	return Kernel{}, fmt.Errorf("%w %q: no such file, and imported are: %s", ErrNoKernel, nameOrPath, names(all))
}

// named returns the newest kernel of a name or ID. It refuses a name that kernels with
// and without modules share, because the two boot differently.
func named(all []Kernel, name string) (found Kernel, err error) {
	for _, k := range all {
		byID := len(name) >= minID && strings.HasPrefix(k.ID, name)
		switch {
		case k.Name != name && !byID:
		case found.ID == "":
			found = k
		case !byID && (k.Modules == nil) != (found.Modules == nil):
			return Kernel{}, fmt.Errorf("kernel %s: two have that name, one with modules and one without: want the ID of one, %.12s (modules: %t) or %.12s (modules: %t)",
				name, found.ID, found.Modules != nil, k.ID, k.Modules != nil)
		}
	}
	if found.ID == "" {
		return found, ErrNoKernel
	}
	return found, nil
}

func names(all []Kernel) string {
	var s []string
	for _, k := range all {
		s = append(s, k.Name)
	}
	return cmp.Or(strings.Join(s, ", "), "none")
}

func (c *Cache) kernelAt(path string) (Kernel, error) {
	k, err := c.openKernel(path)
	if err != nil {
		return Kernel{}, fmt.Errorf("kernel %s: %w", path, err)
	}
	return k, nil
}

func (c *Cache) openKernel(path string) (Kernel, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return Kernel{}, err
	}
	f, err := os.Open(path)
	if err != nil {
		return Kernel{}, err
	}
	defer func() { _ = f.Close() }()
	kind, err := identify(f)
	if err != nil {
		return Kernel{}, err
	}
	var r record
	switch kind {
	case formUnknown, formDeb, formKrunfw, formCompressed, formZboot:
		return c.importKernel([]string{path})
	case formBzImage:
		r, err = describeBzImage(f)
	case formELF:
		r, _, err = describeELF(f)
	case formImage:
		r, _, err = describeImage(f)
	}
	k := r.kernel(path)
	k.Modules = findModules(r.Release, filepath.Dir(path), filepath.Dir(filepath.Dir(path)), c.host)
	return k, err
}

// describeBzImage assumes what a compressed kernel does not show: the kernels of all
// distributions have a serial console and take an initramfs.
func describeBzImage(r io.ReaderAt) (record, error) {
	rel, err := bzImageRelease(r)
	return record{Name: rel, File: "vmlinuz", Release: rel, Console: consoleSerial, Initrd: true}, err
}

// findModules returns the modules of a release from the first of roots that has them.
func findModules(release string, roots ...string) *ModuleTree {
	for _, root := range roots {
		if t, err := OpenModules(filepath.Join(root, "lib", "modules", release)); err == nil {
			return t
		}
	}
	return nil
}

func (c *Cache) defaultKernel(architecture string, all []Kernel) (Kernel, error) {
	for _, word := range []string{"cloud", ""} {
		for _, k := range all {
			if k.Initrd && k.Modules != nil && strings.Contains(k.Release, word) {
				return k, nil
			}
		}
	}
	if architecture != runtime.GOARCH {
		return Kernel{}, fmt.Errorf("%w for %s to boot by default; run: agentctl kernel fetch --platform linux/%s,"+
			" or agentctl kernel import FILE with the linux-image package of a distribution (imported for it are: %s)",
			ErrNoKernel, architecture, architecture, names(all))
	}
	k, err := c.installedKernel()
	if err != nil {
		return Kernel{}, fmt.Errorf("%w to boot by default; run: agentctl kernel fetch,"+
			" or agentctl kernel import FILE with the linux-image package of a distribution (imported are: %s)\n%w", ErrNoKernel, names(all), err)
	}
	return k, nil
}

// installedKernel returns the newest kernel in /boot that can be used. Some
// distributions let only root read it; the error says so.
func (c *Cache) installedKernel() (Kernel, error) {
	paths, err := filepath.Glob(filepath.Join(c.host, "boot", "vmlinuz-*"))
	if err != nil {
		return Kernel{}, err
	}
	slices.SortStableFunc(paths, func(a, b string) int { return modified(b).Compare(modified(a)) })
	problems := []error{fmt.Errorf("%d kernels are installed in %s", len(paths), filepath.Join(c.host, "boot"))}
	for _, path := range paths {
		k, err := c.kernelAt(path)
		if err == nil && k.Modules != nil {
			return k, nil
		}
		if err == nil {
			err = fmt.Errorf("kernel %s: no modules of %s", path, k.Release)
		}
		problems = append(problems, err)
	}
	return Kernel{}, errors.Join(problems...)
}

func modified(path string) time.Time {
	info, err := os.Stat(path)
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}
