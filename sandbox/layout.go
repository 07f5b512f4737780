package sandbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync"

	"github.com/agentd-go/agentd/internal/guest/plan"
	"github.com/agentd-go/agentd/internal/image"
	"github.com/agentd-go/agentd/internal/snapshot"
	"github.com/agentd-go/agentd/internal/vmm"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/bootenv"
)

const (
	// rootTag is the tag of the file system that the kernel itself mounts as the root.
	rootTag = "/dev/root"
	// realTag is the tag of the root that the agent changes to.
	realTag = "root"
	// shareTag is the tag of the runtime directory, which is shared with the host.
	shareTag = "msb_runtime"
	// initName is the agent's name in a root that boots without initramfs.
	initName = "init.krun"
)

// A layout holds the files from which a machine boots.
type layout struct {
	dir     string // Private to this machine.
	kept    bool   // Keep the directory after the machine's end.
	machine vmm.Machine
	note    string // The accelerator, and why it was chosen.

	sharing *vmm.Sharing // How this host shares directories; nil if that was not determined.
	// unshared says why this host cannot share directories with the machine; nil if it
	// can.
	unshared error
	// shareless says that the machine has no shared directory.
	shareless bool

	rootFile string // The disk that the machine writes its root to; "" is none.

	templates snapshot.Templates
	room      int        // The number of devices that the kernel's board can have.
	layers    numbers    // The disks that are an image's layers: erofs, and an upper.
	cold      error      // Why the machine boots; nil while it may start from a template.
	tsc       func() int // Returns vmm.Machine.TSCkHz, which is measured concurrently.
}

// prepare makes all files that the machine needs before its start. It returns the
// configuration with the image's additions.
func prepare(ctx context.Context, cfg Config) (_ *layout, complete Config, err error) {
	cache, err := cfg.cacheFiles()
	if err != nil {
		return nil, cfg, err
	}
	kernel, err := cache.KernelFor(string(cfg.architecture()), cfg.Kernel)
	if err != nil {
		return nil, cfg, err
	}
	l, err := newLayout(cfg.Files)
	if err != nil {
		return nil, cfg, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.remove())
		}
	}()
	l.room = vmm.Machine{Architecture: cfg.architecture(), ACPI: kernel.Initrd}.Room()
	if err := l.choose(ctx, cfg, cache); err != nil {
		return nil, cfg, err
	}
	switch {
	case cfg.Image != "":
		cfg, err = l.fromImage(ctx, cfg, cache)
	case l.shareless:
		cfg, err = l.fromSmallRoot(cfg, cache)
	}
	if err != nil {
		return nil, cfg, err
	}
	if err := l.lay(cfg, cache, kernel); err != nil {
		return nil, cfg, err
	}
	return l, cfg, nil
}

// choose decides on the accelerator, on whether the machine may start from a template,
// and on whether it has shared directories. All else depends on that.
func (l *layout) choose(ctx context.Context, cfg Config, cache *image.Cache) (err error) {
	accel, err := cfg.accel()
	if err != nil {
		return err
	}
	l.note = "using " + accel.String() + ", as asked"
	if accel == vmm.Auto {
		accel, l.note = vmm.DetectAccel(cfg.architecture())
	}
	l.machine.Accel = accel
	l.templates = snapshot.At(filepath.Join(cache.Path(), templateKind))
	l.tsc = func() int { return 0 }
	if accel == vmm.TCG {
		l.tsc = later(func() int { return vmm.MeasureTSC(cfg.architecture()) })
	}
	l.mayWarm(cfg)
	l.shareless = l.cold == nil || l.hasUpper(cfg)
	if !l.shareless && cfg.needsNoShares() {
		l.sharing, l.unshared = vmm.FindSharing(ctx, vmm.Options{})
		l.shareless = l.unshared != nil
	}
	return nil
}

// later computes a value in the background, and returns a function that waits for it.
func later(find func() int) func() int {
	found := make(chan int, 1)
	go func() { found <- find() }()
	return sync.OnceValue(func() int { return <-found })
}

// newLayout makes the machine's directory, or takes the given one.
func newLayout(files string) (*layout, error) {
	if files == "" {
		dir, err := os.MkdirTemp("", "agentctl-")
		return &layout{dir: dir}, err
	}
	dir, err := filepath.Abs(files)
	if err != nil {
		return nil, err
	}
	return &layout{dir: dir, kept: true}, os.MkdirAll(dir, 0o700)
}

func (l *layout) lay(cfg Config, cache *image.Cache, kernel image.Kernel) error {
	agent, err := cfg.agent()
	if err != nil {
		return err
	}
	words, err := cfg.words()
	if err != nil {
		return err
	}
	l.machine = vmm.Machine{
		Architecture: cfg.architecture(),

		Kernel:    kernel.Path,
		CPUs:      cfg.CPUs,
		MemoryMiB: cfg.MemoryMiB,

		TranslationMiB: cfg.TranslationMiB,

		Accel:    l.machine.Accel,
		Affinity: cfg.Affinity,
		Network:  cfg.Network,
		Cmdline:  words,
		Card:     cfg.hooks.Card,
		Records:  cfg.hasSecond(),
	}
	if l.machine.Records {
		l.machine.Cmdline = append(l.machine.Cmdline, wire.SecondPortWord)
	}
	if cfg.Survive != "" {
		l.machine.Cmdline = append(l.machine.Cmdline, wire.ReturningHostWord)
	}
	if l.shareless {
		l.machine.Cmdline = append(l.machine.Cmdline, bootenv.Word(bootenv.Share, bootenv.ShareInMemory))
	} else if err := l.runtime(cfg.Runtime); err != nil {
		return err
	}
	if err := l.attach(cfg); err != nil {
		return err
	}
	root, private, err := l.root(cfg, cache)
	if err != nil {
		return err
	}
	if cfg.Image != "" && cfg.ReadOnlyRoot {
		l.machine.Cmdline = append(l.machine.Cmdline, bootenv.Word(bootenv.Seal, bootenv.SealRoot))
	} else if private && cfg.ReadOnlyRoot {
		if err := l.makeMountPoints(cfg, root); err != nil {
			return err
		}
	}
	switch {
	case kernel.Initrd:
		err = l.fromInitramfs(cfg, cache, kernel, agent, root, private)
	case l.shareless:
		err = l.fromDisk(cache, agent)
	default:
		err = l.fromRoot(cfg, agent, root, private)
	}
	l.machine.TSCkHz = l.tsc()
	return cmp.Or(err, checkPages(kernel, l.machine.Disks))
}

// runtime shares the directory of scripts and certificate authorities: the given one,
// or a private one.
func (l *layout) runtime(given string) error {
	if given == "" {
		return l.share(shareTag, "share", "scripts")
	}
	dir, err := filepath.Abs(given)
	if err != nil {
		return err
	}
	l.machine.Shares = append(l.machine.Shares, vmm.Share{Tag: shareTag, Dir: dir})
	return os.MkdirAll(filepath.Join(dir, "scripts"), 0o755) //nolint:gosec // The guest's users read it.
}

// share makes a private directory with subdirectories and shares it.
func (l *layout) share(tag, name string, subdirectories ...string) error {
	dir := filepath.Join(l.dir, name)
	for _, sub := range append([]string{"."}, subdirectories...) {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil { //nolint:gosec // The guest's users read it.
			return err
		}
	}
	l.machine.Shares = append(l.machine.Shares, vmm.Share{Tag: tag, Dir: dir, Private: true})
	return nil
}

// root returns the root directory; private says that it belongs to this machine only. A
// machine with a root on disks needs no directory: dir is "".
func (l *layout) root(cfg Config, cache *image.Cache) (dir string, private bool, err error) {
	if cfg.Image != "" {
		return "", true, nil
	}
	if cfg.Root != "" {
		dir, err = filepath.Abs(cfg.Root)
		return dir, false, err
	}
	busybox, err := cache.FindBusybox(string(cfg.architecture()))
	if err != nil {
		return "", false, err
	}
	master, err := cache.BusyboxRoot(busybox)
	if err != nil {
		return "", false, err
	}
	dir = filepath.Join(l.dir, "root")
	return dir, true, copyOnce(dir, master)
}

// copyOnce copies a tree, unless an earlier life of the machine has made the copy. An
// incomplete copy has a temporary name.
func copyOnce(dir, master string) error {
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	early := dir + ".new"
	if err := os.RemoveAll(early); err != nil {
		return err
	}
	if err := image.CopyTree(early, master); err != nil {
		return err
	}
	return os.Rename(early, dir)
}

// fromInitramfs lets a stock kernel boot: the agent starts from an initramfs, loads the
// needed modules and changes to the root.
func (l *layout) fromInitramfs(cfg Config, cache *image.Cache, kernel image.Kernel, agent []byte, root string, private bool) (err error) {
	if cfg.hooks.Foreign {
		return fmt.Errorf("kernel %s starts from an initramfs, which only our own agent can", kernel.Name)
	}
	var modules []string
	if kernel.Modules != nil {
		modules = cfg.guestModules()
	}
	if l.machine.Initrd, err = cache.Initramfs(agent, kernel, modules...); err != nil {
		return err
	}
	l.machine.ACPI = true
	l.machine.Console = vmm.Serial
	l.enter(root, cfg.ReadOnlyRoot, private || cfg.OwnRoot)
	return nil
}

// fromRoot lets a kernel boot that mounts a virtiofs root by itself. The agent is in
// that root: in the real root if we may write to it. Otherwise it is in a root with
// only the agent, and changes to the real root.
func (l *layout) fromRoot(cfg Config, agent []byte, root string, private bool) error {
	first := root
	switch {
	case cfg.Image != "":
		first = filepath.Join(l.dir, "first")
	case (!private || cfg.ReadOnlyRoot) && !cfg.hooks.Foreign:
		first = filepath.Join(l.dir, "first")
		l.enter(root, cfg.ReadOnlyRoot, private || cfg.OwnRoot)
	}
	if first != root {
		if err := os.MkdirAll(filepath.Join(first, "dev"), 0o755); err != nil { //nolint:gosec // As in any root.
			return err
		}
	}
	if err := plant(first, agent); err != nil {
		return fmt.Errorf("put the agent into the first root: %w", err)
	}
	l.machine.Shares = append(l.machine.Shares, rootShare(rootTag, first, false, private || first != root, l.machine.Accel))
	l.machine.Cmdline = append([]string{
		"root=" + rootTag, "rootfstype=virtiofs", "rw", "init=/" + initName,
	}, l.machine.Cmdline...)
	return nil
}

// fromDisk is fromRoot without a share: the kernel mounts a disk with only the agent.
// It is the last disk, so that the names of the others do not change.
func (l *layout) fromDisk(cache *image.Cache, agent []byte) error {
	path, err := cache.FirstRoot(agent, initName, "dev", "proc", "sys", plan.NewRoot)
	if err != nil {
		return err
	}
	const most = 'z' - 'a' // Names of one letter; a machine has too few slots for more disks.
	n := len(l.machine.Disks)
	if n > most {
		return fmt.Errorf("%d disks: a machine has at most %d", n, most)
	}
	l.machine.Disks = append(l.machine.Disks, vmm.Disk{Path: path, ReadOnly: true, Fixed: true})
	l.enter("", false, true)
	l.machine.Cmdline = append([]string{
		"root=/dev/vd" + string(rune('a'+n)), "rootfstype=erofs", "ro", "init=/" + initName,
	}, l.machine.Cmdline...)
	return nil
}

// plant puts the agent into a root. An earlier life of the machine may have written
// there, so plant replaces any file in the agent's place and follows no link out of the
// root.
func plant(dir string, agent []byte) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	if err := root.RemoveAll(initName); err != nil {
		return err
	}
	const executable = 0o755
	f, err := root.OpenFile(initName, os.O_WRONLY|os.O_CREATE|os.O_EXCL, executable)
	if err != nil {
		return err
	}
	_, err = f.Write(agent)
	return errors.Join(err, f.Close())
}

// rootShare returns the share for a guest's root. Under emulation the guest caches a
// private root, because each request to the host is slow there. In a user's root
// set-user-ID programs work, and the guest can install more of them.
func rootShare(tag, dir string, readOnly, private bool, accel vmm.Accel) vmm.Share {
	return vmm.Share{Tag: tag, Dir: dir, ReadOnly: readOnly, Private: private, SetID: true, Steady: private && accel != vmm.KVM}
}

// enter tells the agent to change to the real root or, without one, to a place in which
// it assembles the root.
func (l *layout) enter(root string, readOnly, private bool) {
	if root == "" {
		l.machine.Cmdline = append([]string{bootenv.Word(bootenv.Root, "tmpfs:"+realTag)}, l.machine.Cmdline...)
		return
	}
	l.machine.Shares = append(l.machine.Shares, rootShare(realTag, root, readOnly, private, l.machine.Accel))
	l.machine.Cmdline = append([]string{bootenv.Word(bootenv.Root, "virtiofs:"+realTag)}, l.machine.Cmdline...)
}

// remove deletes the machine's directory, unless it is kept.
func (l *layout) remove() error {
	if l.kept {
		return nil
	}
	return RemoveFiles(l.dir)
}

// RemoveFiles removes a directory with files of machines. The files may belong to the
// user's subordinate ids; then only a process with these ids mapped can delete them.
func RemoveFiles(dir string) error {
	err := os.RemoveAll(dir)
	if !errors.Is(err, fs.ErrPermission) || os.Getuid() == 0 {
		return err
	}
	again := exec.Command("unshare", "--map-root-user", "--map-auto", "rm", "-rf", "--", dir) //nolint:noctx // The files must go at the end of a machine, even if no caller waits.
	if out, failed := again.CombinedOutput(); failed != nil {
		return fmt.Errorf("remove %s: %w; %s", dir, err, out)
	}
	return nil
}
