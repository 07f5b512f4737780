package image

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

const (
	builtinFile = "modules.builtin"
	// The largest modules (graphics drivers) have some 30 MiB.
	moduleBytes = 64 << 20
	// A boot needs some ten modules of 1 MiB together. The bound allows for a file
	// system with all its dependencies, and ends an absurd tree.
	resolvedModules = 500
	resolvedBytes   = 256 << 20
	// Full distribution kernels have some 7,000 files in their trees.
	treeFiles = 100_000
)

// A Module is a kernel module, ready to be loaded.
type Module struct {
	Name string // As the kernel spells it, with _ for -.
	Data []byte // The ELF file, not compressed.
}

// A ModuleTree is a directory /lib/modules/RELEASE. It is safe for concurrent
// use.
//
// Dependencies are read from each module's own .modinfo section and never from
// modules.dep: packages do not have that file (depmod makes it at their
// installation), an installed one may be older than the modules beside it, and
// what the modules say themselves is right in both cases.
type ModuleTree struct {
	dir   string
	index func() (*moduleIndex, error)
}

type moduleIndex struct {
	paths   map[string]string // By name.
	builtin map[string]bool
}

// A MissingModuleError reports a module that is not in the tree.
type MissingModuleError struct {
	Module   string
	NeededBy string // Empty when the caller asked for it.
	Tree     string
}

func (e *MissingModuleError) Error() string {
	if e.NeededBy == "" {
		return fmt.Sprintf("module %s: not in %s", e.Module, e.Tree)
	}
	return fmt.Sprintf("module %s, needed by %s: not in %s", e.Module, e.NeededBy, e.Tree)
}

// A ModuleCycleError reports modules that need each other. Path is the cycle, from a
// module back to itself.
type ModuleCycleError struct{ Path []string }

func (e *ModuleCycleError) Error() string {
	return "modules need each other: " + strings.Join(e.Path, " → ")
}

// OpenModules opens the tree in dir, which holds a directory kernel and,
// usually, the list modules.builtin. The tree is read when it is first used.
func OpenModules(dir string) (*ModuleTree, error) {
	if !isDir(filepath.Join(dir, "kernel")) {
		return nil, fmt.Errorf("modules %s: no directory kernel in it: %w", dir, fs.ErrNotExist)
	}
	t := &ModuleTree{dir: dir}
	t.index = sync.OnceValues(func() (*moduleIndex, error) { return indexModules(dir) })
	return t, nil
}

// Dir is the directory of the tree.
func (t *ModuleTree) Dir() string { return t.dir }

// Resolve returns the named modules and all their dependencies; each module comes after
// those that it needs. Modules that are built into the kernel are left out. A soft
// dependency is followed when the tree has it. A name that is neither in the tree nor
// built in is a [MissingModuleError].
func (t *ModuleTree) Resolve(names ...string) ([]Module, error) {
	index, err := t.index()
	if err != nil {
		return nil, fmt.Errorf("modules %s: %w", t.dir, err)
	}
	r := resolver{tree: t, index: index, done: map[string]bool{}}
	for _, name := range names {
		if err := r.add(moduleName(name)); err != nil {
			return nil, err
		}
	}
	return r.modules, nil
}

func indexModules(dir string) (*moduleIndex, error) {
	x := &moduleIndex{paths: map[string]string{}}
	files := 0
	err := filepath.WalkDir(filepath.Join(dir, "kernel"), func(p string, e fs.DirEntry, err error) error { //nolint:gosec // G703: the tree of a kernel that the user names.
		if files++; err != nil || files > treeFiles {
			return errors.Join(err, tooMany(files, treeFiles))
		}
		if e.Type().IsRegular() && isModule(p) {
			x.paths[moduleName(p)] = p
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	x.builtin, err = readBuiltin(filepath.Join(dir, builtinFile))
	return x, err
}

func tooMany(n, limit int) error {
	if n <= limit {
		return nil
	}
	return fmt.Errorf("%w (%d files)", ErrTooLarge, limit)
}

// readBuiltin reads the list modules.builtin: the paths that built-in modules would
// have as files.
func readBuiltin(name string) (map[string]bool, error) {
	f, err := os.Open(name) //nolint:gosec // G703: in that tree.
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	b, err := readBounded(f, modinfoBytes)
	set := map[string]bool{}
	for line := range strings.FieldsSeq(string(b)) {
		set[moduleName(line)] = true
	}
	return set, err
}

var moduleSuffixes = []string{".ko", ".ko.xz", ".ko.zst", ".ko.gz"}

func isModule(p string) bool {
	return slices.ContainsFunc(moduleSuffixes, func(s string) bool { return strings.HasSuffix(p, s) })
}

// moduleName turns a path or a name, with - or _, into the name of the kernel.
func moduleName(p string) string {
	name, _, _ := strings.Cut(path.Base(filepath.ToSlash(p)), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

// A resolver walks the dependencies depth first. A module that is on the path and not
// done is being walked; reaching it again is a cycle.
type resolver struct {
	tree    *ModuleTree
	index   *moduleIndex
	done    map[string]bool
	path    []string
	bytes   int
	modules []Module
}

// add appends the module name and, before it, what it needs.
func (r *resolver) add(name string) error {
	if r.done[name] || r.index.builtin[name] {
		return nil
	}
	if at := slices.Index(r.path, name); at >= 0 {
		return &ModuleCycleError{append(slices.Clone(r.path[at:]), name)}
	}
	data, info, err := r.read(name)
	if err != nil {
		return err
	}
	r.path = append(r.path, name)
	if err := r.needs(info); err != nil {
		return err
	}
	r.path = r.path[:len(r.path)-1]
	r.done[name] = true
	r.modules = append(r.modules, Module{name, data})
	return r.wants(info.after)
}

func (r *resolver) needs(info modinfo) error {
	if err := r.wants(info.before); err != nil {
		return err
	}
	for _, name := range info.depends {
		if err := r.add(moduleName(name)); err != nil {
			return err
		}
	}
	return nil
}

// wants adds soft dependencies. It leaves out one that leads to a cycle: the hard
// dependencies decide the order.
func (r *resolver) wants(names []string) error {
	for _, name := range names {
		name = moduleName(name)
		if _, ok := r.index.paths[name]; !ok {
			continue
		}
		depth := len(r.path)
		var cycle *ModuleCycleError
		if err := r.add(name); err != nil && !errors.As(err, &cycle) {
			return err
		}
		r.path = r.path[:depth]
	}
	return nil
}

func (r *resolver) read(name string) ([]byte, modinfo, error) {
	file, ok := r.index.paths[name]
	if !ok {
		return nil, modinfo{}, r.missing(name)
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, modinfo{}, err
	}
	defer func() { _ = f.Close() }()
	data, err := decompressAll(f, moduleBytes)
	if err != nil {
		return nil, modinfo{}, fmt.Errorf("module %s: %w", file, err)
	}
	if r.bytes += len(data); r.bytes > resolvedBytes || len(r.path)+len(r.modules) >= resolvedModules {
		return nil, modinfo{}, fmt.Errorf("module %s and what was before it: %w", name, ErrTooLarge)
	}
	info, err := parseModinfo(data)
	if err != nil {
		return nil, modinfo{}, fmt.Errorf("module %s: %w", file, err)
	}
	return data, info, nil
}

func (r *resolver) missing(name string) error {
	e := &MissingModuleError{Module: name, Tree: r.tree.dir}
	if len(r.path) > 0 {
		e.NeededBy = r.path[len(r.path)-1]
	}
	return e
}
