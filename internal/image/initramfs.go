package image

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
)

const (
	initramfsKind   = "initramfs"
	initramfsFile   = "initramfs.cpio"
	initramfsRecipe = "initramfs 1"

	// ModuleDir is where the initramfs has its modules, in files NNN-name.ko
	// whose lexical order is the order to load them in.
	ModuleDir = "lib/modules/agentd"

	// Three digits number the modules. See resolvedModules.
	maxInitramfsModules = 1000
)

// Modes of the entries; inode(7).
const (
	modeDir     = 0o040755
	modeSticky  = 0o041777
	modeProgram = 0o100755
	modeFile    = 0o100644
	modeConsole = 0o020600
)

// WriteInitramfs writes an initramfs whose /init is agentd and whose modules
// are in the given order. The same inputs give the same bytes.
//
// It is an uncompressed cpio archive of the form newc. The guest reads it from memory,
// where a few megabytes more cost nothing, but an emulated processor would take long to
// decompress them.
func WriteInitramfs(w io.Writer, agentd []byte, modules []Module) error {
	if err := checkInitramfs(agentd, modules); err != nil {
		return fmt.Errorf("initramfs: %w", err)
	}
	c := cpioWriter{w: bufio.NewWriter(w)}
	for _, dir := range []string{"dev", "proc", "sys", "run", "lib", "lib/modules", ModuleDir} {
		c.entry(cpioEntry{name: dir, mode: modeDir})
	}
	c.entry(cpioEntry{name: "tmp", mode: modeSticky})
	// The kernel opens it for init's first three descriptors, before anything
	// could mount a devtmpfs.
	c.entry(cpioEntry{name: "dev/console", mode: modeConsole, major: 5, minor: 1})
	c.entry(cpioEntry{name: "init", mode: modeProgram, data: agentd})
	for i, m := range modules {
		c.entry(cpioEntry{name: modulePath(i, m.Name), mode: modeFile, data: m.Data})
	}
	return c.close()
}

func modulePath(i int, name string) string {
	return fmt.Sprintf("%s/%03d-%s.ko", ModuleDir, i, name)
}

func checkInitramfs(agentd []byte, modules []Module) error {
	if len(modules) > maxInitramfsModules {
		return fmt.Errorf("%d modules: %w (%d)", len(modules), ErrTooLarge, maxInitramfsModules)
	}
	// maxImage is also far below the 32 bits that cpio has for a length.
	if len(agentd) == 0 || len(agentd) > maxImage {
		return fmt.Errorf("an init of %d bytes", len(agentd))
	}
	for _, m := range modules {
		if !isModuleName(m.Name) {
			return fmt.Errorf("module name %q", m.Name)
		}
		if len(m.Data) > moduleBytes {
			return fmt.Errorf("module %s: %w (%d bytes)", m.Name, ErrTooLarge, moduleBytes)
		}
	}
	return nil
}

// isModuleName reports whether the kernel allows a name: an identifier shorter than 56
// bytes (MODULE_NAME_LEN). It also allows "-", which some callers write for "_".
func isModuleName(s string) bool {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"
	return s != "" && len(s) < 56 && strings.Trim(s, letters) == ""
}

type cpioEntry struct {
	name         string
	mode         uint32
	major, minor uint32
	data         []byte
}

// A cpioWriter writes the form newc; Documentation/driver-api/early-userspace/buffer-format.rst.
type cpioWriter struct {
	w   *bufio.Writer // Keeps the first error.
	n   int64
	ino uint32
}

func (c *cpioWriter) entry(e cpioEntry) {
	c.ino++
	c.header(c.ino, e)
}

// header writes one entry's header. Owner and times are zero. The link count is one, so
// that the kernel looks for no other name of the file.
func (c *cpioWriter) header(ino uint32, e cpioEntry) {
	links := 1
	if e.mode&0o170000 == 0o040000 {
		links = 2
	}
	c.write(fmt.Appendf(nil, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X",
		ino, e.mode, 0, 0, links, 0, len(e.data), 0, 0, e.major, e.minor, len(e.name)+1, 0))
	c.write(append([]byte(e.name), 0))
	c.pad(4)
	c.write(e.data)
	c.pad(4)
}

func (c *cpioWriter) write(b []byte) {
	n, _ := c.w.Write(b)
	c.n += int64(n)
}

func (c *cpioWriter) pad(to int64) {
	c.write(make([]byte, (to-c.n%to)%to))
}

func (c *cpioWriter) close() error {
	c.header(0, cpioEntry{name: "TRAILER!!!"})
	c.pad(512)
	return c.w.Flush()
}

// Initramfs returns the path of an initramfs for the kernel k, with agentd and
// the named modules and what they need.
func (c *Cache) Initramfs(agentd []byte, k Kernel, modules ...string) (string, error) {
	if !k.Initrd {
		return "", fmt.Errorf("initramfs: kernel %s takes none", k.Name)
	}
	key := newKeyer(initramfsRecipe)
	key.add(agentd)
	resolved, err := k.identify(key, modules)
	if err != nil {
		return "", fmt.Errorf("initramfs for kernel %s: %w", k.Name, err)
	}
	dir, err := c.Dir(initramfsKind, key.key(), func(dir string) error {
		all, err := resolved()
		if err != nil {
			return fmt.Errorf("initramfs for kernel %s: %w", k.Name, err)
		}
		return writeNew(filepath.Join(dir, initramfsFile), func(w io.Writer) error {
			return WriteInitramfs(w, agentd, all)
		})
	})
	if err == nil {
		touch(dir)
	}
	return filepath.Join(dir, initramfsFile), err
}

// identify adds to the key what decides about the modules. A kernel of the cache never changes,
// so its name there and the modules' names do; they are resolved only for a new initramfs. The
// modules of an installed kernel can change, so they are read each time.
func (k Kernel) identify(key keyer, modules []string) (resolved func() ([]Module, error), err error) {
	resolve := func() ([]Module, error) { return k.resolve(modules) }
	if k.ID != "" {
		key.add([]byte("of the cache"))
		key.add([]byte(k.ID))
		for _, name := range modules {
			key.add([]byte(name))
		}
		return resolve, nil
	}
	all, err := resolve()
	for _, m := range all {
		key.add([]byte(m.Name))
		key.add(m.Data)
	}
	return func() ([]Module, error) { return all, nil }, err
}

// resolve finds and reads the modules.
func (k Kernel) resolve(modules []string) ([]Module, error) {
	if len(modules) == 0 {
		return nil, nil
	}
	if k.Modules == nil {
		return nil, errors.New("no modules of " + k.Release + " found")
	}
	return k.Modules.Resolve(modules...)
}
