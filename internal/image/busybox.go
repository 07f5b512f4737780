package image

import (
	"bufio"
	"bytes"
	"context"
	"debug/elf"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

const (
	rootKind    = "roots"
	busyboxKind = "busybox"
	rootRecipe  = "busybox root 2"
	// The largest builds of busybox take 3 MiB.
	busyboxBytes = 64 << 20
	// Printing a list takes milliseconds; the rest is for a loaded host.
	busyboxDeadline = 10 * time.Second
	// Busybox has some 400 applets.
	maxApplets = 2000
)

// ErrNoBusybox says that the host has no busybox that a guest could run.
var ErrNoBusybox = errors.New("no usable busybox: install the package busybox-static (its name in Debian and Ubuntu)")

// machines maps Go's names of a guest's possible processors to those of ELF.
var machines = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}

// FindBusybox returns the path of a static busybox for an architecture: a dynamic one
// would need libraries that the root does not have. That for this host's architecture is
// an installed one; that for another is in the cache: see [Cache.FetchBusybox].
func (c *Cache) FindBusybox(architecture string) (string, error) {
	if architecture == runtime.GOARCH {
		return FindBusybox()
	}
	path := filepath.Join(c.dir, busyboxKind, architecture, "busybox")
	if _, err := staticMachine(path); err != nil {
		return "", fmt.Errorf("no busybox for %s, which is the machine's root: run: agentctl kernel fetch --platform linux/%s; or name an image: %w", architecture, architecture, err)
	}
	return path, nil
}

// FindBusybox returns the path of a static busybox for this host's architecture.
func FindBusybox() (string, error) {
	return findBusybox("/bin/busybox", "/usr/bin/busybox")
}

func findBusybox(candidates ...string) (string, error) {
	problems := []error{ErrNoBusybox}
	for _, p := range candidates {
		m, err := staticMachine(p)
		if err == nil && m != machines[runtime.GOARCH] {
			err = fmt.Errorf("%s: for %v", p, m)
		}
		if err == nil {
			return p, nil
		}
		problems = append(problems, err)
	}
	return "", errors.Join(problems...)
}

// staticMachine returns what a program was built for, if it needs no interpreter.
func staticMachine(name string) (elf.Machine, error) {
	f, err := elf.Open(name)
	if err != nil {
		return elf.EM_NONE, fmt.Errorf("%s: %w", name, err)
	}
	defer func() { _ = f.Close() }()
	if f.Type != elf.ET_EXEC && f.Type != elf.ET_DYN {
		return elf.EM_NONE, fmt.Errorf("%s: not a program", name)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return elf.EM_NONE, fmt.Errorf("%s: dynamically linked", name)
		}
	}
	return f.Machine, nil
}

// BusyboxRoot returns a root directory that the function [BusyboxRoot] has made with
// the given busybox. A machine that writes to it needs its own copy: [CopyTree].
func (c *Cache) BusyboxRoot(busybox string) (string, error) {
	key := newKeyer(rootRecipe)
	if err := key.addFile(busybox); err != nil {
		return "", fmt.Errorf("busybox root: %w", err)
	}
	return c.Dir(rootKind, key.key(), func(dir string) error { return BusyboxRoot(dir, busybox) })
}

// BusyboxRoot fills dir with a small root: busybox, a link for each of its
// applets, the usual directories, and users root, daemon, user (1000) and
// nobody. There is no /etc/hosts and no resolv.conf: the agent writes them.
//
// If root runs it, /home/user belongs to user. Otherwise everything belongs to the
// caller, and the file server decides which owner the guest sees.
func BusyboxRoot(dir, busybox string) error {
	if err := buildRoot(dir, busybox); err != nil {
		return fmt.Errorf("busybox root: %w", err)
	}
	return nil
}

func buildRoot(dir, busybox string) error {
	m, err := staticMachine(busybox)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // Directories of a root are for everyone.
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	for _, step := range []func() error{
		func() error { return makeDirs(root) },
		func() error { return copyBusybox(root, busybox) },
		func() error { return linkApplets(root, applets(busybox, m)) },
		func() error { return writeEtc(root) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

type rootDir struct {
	path string
	mode os.FileMode
}

// rootDirs lists parents before their children.
var rootDirs = []rootDir{
	{".", 0o755},
	{"bin", 0o755},
	{"sbin", 0o755},
	{"usr", 0o755},
	{"usr/bin", 0o755},
	{"usr/sbin", 0o755},
	{"usr/local", 0o755},
	{"usr/local/bin", 0o755},
	{"usr/local/sbin", 0o755},
	{"dev", 0o755},
	{"proc", 0o555},
	{"sys", 0o555},
	{"run", 0o755},
	{"mnt", 0o755},
	{"etc", 0o755},
	{"lib", 0o755},
	{"opt", 0o755},
	{"srv", 0o755},
	{"root", 0o700},
	{"home", 0o755},
	{"home/user", 0o755},
	{"tmp", 0o777 | os.ModeSticky},
	{"var", 0o755},
	{"var/log", 0o755},
	{"var/tmp", 0o777 | os.ModeSticky},
}

// makeDirs makes the directories first and then sets their modes, because the umask
// limits the modes of mkdir.
func makeDirs(root *os.Root) error {
	for _, d := range rootDirs {
		if err := root.MkdirAll(d.path, 0o755); err != nil {
			return err
		}
		if err := root.Chmod(d.path, d.mode); err != nil {
			return err
		}
	}
	if os.Geteuid() == 0 {
		return root.Chown("home/user", 1000, 1000)
	}
	return nil
}

func copyBusybox(root *os.Root, busybox string) error {
	f, err := os.Open(busybox)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	b, err := readBounded(f, busyboxBytes)
	if err != nil {
		return err
	}
	if err := root.WriteFile("bin/busybox", b, 0o755); err != nil {
		return err
	}
	return root.Chmod("bin/busybox", 0o755)
}

// linkApplets makes relative links, so that a host tool that follows one stays in the
// root.
func linkApplets(root *os.Root, applets []string) error {
	for _, a := range applets {
		up, err := filepath.Rel(path.Dir(a), "bin/busybox")
		if err != nil {
			return err
		}
		if err := root.Symlink(up, a); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	return nil
}

//go:embed applets.txt
var usualApplets []byte

// applets returns the paths of busybox's links. It asks the program for them. For
// another architecture, or a program without that option, it returns the usual ones.
func applets(busybox string, m elf.Machine) []string {
	if m == machines[runtime.GOARCH] {
		if list := askApplets(busybox); len(list) > 0 {
			return slices.DeleteFunc(list, func(a string) bool { return path.Base(a) == "wget" && crashes(busybox, "wget", "-T", "5") })
		}
	}
	return parseApplets(usualApplets)
}

// crashes reports whether a signal ends an applet. The wget of Debian 12's busybox
// (1.35.0) crashes on its option for a timeout.
func crashes(busybox string, words ...string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), busyboxDeadline)
	defer cancel()
	var ended *exec.ExitError
	err := exec.CommandContext(ctx, busybox, words...).Run() // Without an address it prints its usage.
	return errors.As(err, &ended) && ended.ExitCode() < 0 && ctx.Err() == nil
}

func askApplets(busybox string) []string {
	ctx, cancel := context.WithTimeout(context.Background(), busyboxDeadline)
	defer cancel()
	cmd := exec.CommandContext(ctx, busybox, "--list-full")
	cmd.Args[0] = "busybox" // Busybox reads its own options only under this name.
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if err != nil {
		return nil
	}
	return parseApplets(out)
}

// parseApplets keeps the paths in directories for programs, because the root has only
// those directories.
func parseApplets(list []byte) (out []string) {
	for s := bufio.NewScanner(bytes.NewReader(list)); s.Scan() && len(out) < maxApplets; {
		a := strings.TrimSpace(s.Text())
		dir, name := path.Split(a)
		switch dir {
		case "bin/", "sbin/", "usr/bin/", "usr/sbin/":
			if name != "" && name != "." && name != ".." && name != "busybox" {
				out = append(out, a)
			}
		}
	}
	return out
}

// etc holds the contents of the files in /etc.
var etc = map[string]string{ //nolint:gosec // G101: accounts, but no password that opens one.
	"etc/passwd": `root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
user:x:1000:1000:user:/home/user:/bin/sh
nobody:x:65534:65534:nobody:/nonexistent:/bin/false
`,
	"etc/group": `root:x:0:
daemon:x:1:
tty:x:5:
user:x:1000:
nogroup:x:65534:
`,
	"etc/profile": `export PATH="${PATH:-/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin}"
export PS1='\u@\h:\w\$ '
`,
}

func writeEtc(root *os.Root) error {
	for name, text := range etc {
		if err := root.WriteFile(name, []byte(text), 0o644); err != nil {
			return err
		}
		if err := root.Chmod(name, 0o644); err != nil {
			return err
		}
	}
	return nil
}
