package boot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/agentd-go/agentd/internal/guest/plan"
	"github.com/agentd-go/agentd/internal/guest/sys"
	"github.com/agentd-go/agentd/wire/bootenv"
)

// moduleDir holds the modules that the machine needs. The order of their names is the
// order of loading. Only the project's own initramfs has it.
const moduleDir = "/lib/modules/agentd"

// EnterRoot makes the file system that spec names the root of the machine.
func EnterRoot(spec string) error {
	fstype, source, ok := strings.Cut(spec, ":")
	if !ok || fstype == "" || source == "" {
		return fmt.Errorf("%s=%q: want TYPE:SOURCE, for example virtiofs:root", bootenv.Root, spec)
	}
	root, err := sys.OpenRoot("/")
	if err != nil {
		return err
	}
	m := &Machine{root: root}
	defer func() { _ = root.Close() }()
	// /proc/cmdline has the modules' parameters; devices appear in /dev.
	if err := m.mounts(plan.Mounts{List: []plan.Mount{
		{Source: "devtmpfs", Target: "/dev", Type: "devtmpfs"},
		{Source: "proc", Target: "/proc", Type: "proc"},
	}}); err != nil {
		return err
	}
	if err := loadModules(); err != nil {
		return err
	}
	if err := root.Mount(sys.Mount{Source: source, Type: fstype, Target: plan.NewRoot}); err != nil {
		return err
	}
	return sys.SwitchRoot(plan.NewRoot)
}

// loadModules loads the modules of moduleDir and removes the files: an initramfs is
// memory.
func loadModules() error {
	entries, err := os.ReadDir(moduleDir) // Sorted by name.
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	cmdline, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := loadModule(filepath.Join(moduleDir, e.Name()), string(cmdline)); err != nil {
			return err
		}
	}
	return os.RemoveAll(moduleDir)
}

func loadModule(path, cmdline string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	return sys.LoadModule(f, parameters(moduleName(path), cmdline))
}

// moduleName takes the name out of NNN-name.ko.
func moduleName(path string) string {
	name := strings.TrimSuffix(filepath.Base(path), ".ko")
	_, after, _ := strings.Cut(name, "-")
	return after
}

// parameters collects the parameters of a module from the kernel command line, as
// module.parameter=value. The kernel itself does that only for built-in modules.
func parameters(module, cmdline string) string {
	var found []string
	for word := range strings.FieldsSeq(cmdline) {
		name, rest, ok := strings.Cut(word, ".")
		if ok && sameModule(name, module) {
			found = append(found, rest)
		}
	}
	return strings.Join(found, " ")
}

// sameModule compares module names, in which - and _ are the same.
func sameModule(a, b string) bool {
	return strings.ReplaceAll(a, "-", "_") == strings.ReplaceAll(b, "-", "_")
}
