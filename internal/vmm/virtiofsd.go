package vmm

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// probeTimeout bounds programs that print and exit (10 ms here; a hundred times as long
// on a busy host). probeTail is how long a child of such a program may hold its output
// open.
const (
	probeTimeout = 5 * time.Second
	probeTail    = 100 * time.Millisecond
)

// dialect tells the two programs named virtiofsd apart.
type dialect int

const (
	dialectC    dialect = iota // of QEMU up to 7.2: options after -o
	dialectRust                // of its own project since
)

// A daemon is one installed virtiofsd and what it can do.
type daemon struct {
	path     string
	dialect  dialect
	readOnly bool // it has an option for read-only shares
}

// hostFacts are the facts on which the virtiofsd command depends.
type hostFacts struct {
	uid int

	// self is this program's path: virtiofsd is started through it, see guardWord.
	self string

	// rootIsMount is false in a plain chroot, where pivot_root cannot work.
	rootIsMount bool

	// idMap is nil if an ordinary user can map a range of user ids into a namespace, or
	// else the reason with its remedy.
	idMap error
}

// identifyDaemon reads the program's help, because the paths and version numbers of the
// two overlap between distributions.
func identifyDaemon(ctx context.Context, path string) (daemon, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	help, err := exec.CommandContext(ctx, path, "--help").CombinedOutput()
	d, known := parseHelp(string(help))
	if !known {
		return d, fmt.Errorf("%s --help tells of no virtiofsd that is known here: %w", path, orExit(err))
	}
	d.path = path
	return d, nil
}

// parseHelp also recognizes the C program by its error message: it drops its groups
// before it reads its arguments, so an ordinary user sees nothing else.
func parseHelp(help string) (d daemon, known bool) {
	switch {
	case strings.Contains(help, "--shared-dir"):
		return daemon{dialect: dialectRust, readOnly: strings.Contains(help, "--readonly")}, true
	case strings.Contains(help, "-o source="), strings.Contains(help, "setgroups() failed"):
		return daemon{dialect: dialectC}, true
	}
	return daemon{}, false
}

// guardWord as the first argument makes this program execute the other arguments under
// the filter of setIDFilter. The filter must be set after unshare(1), whose helpers are
// set-user-ID programs and fail under it. So a program must run between unshare and
// virtiofsd, and this one is always available.
const guardWord = "agentd-vmm-without-set-id"

// A shareRun holds the parameters of one virtiofsd command.
type shareRun struct {
	share  Share
	listen string // "--fd=3" or "--socket-path=…"

	// locked are mount options that a user namespace may not drop from the mount
	// that holds the directory.
	locked []string

	// privateRun mounts an empty /run: when the C program makes its own socket, it
	// keeps a lock file in /var/run, where only root may write.
	privateRun bool
}

// command returns the words to run; its error says why this host cannot run it.
func (d daemon) command(h hostFacts, r shareRun) ([]string, error) {
	box, err := d.sandbox(h)
	if err != nil {
		return nil, err
	}
	setup, err := d.setup(h, box, r)
	if err != nil {
		return nil, err
	}
	words := d.words(r, box)
	if r.share.guarded() {
		words = append([]string{h.self, guardWord}, words...)
	}
	return append(enter(h, box, setup, r.share.Dir), words...), nil
}

// sandbox is the confinement that virtiofsd itself sets up.
func (d daemon) sandbox(h hostFacts) (string, error) {
	switch {
	case h.uid == 0 && h.rootIsMount:
		return "namespace", nil
	case h.uid == 0:
		return "chroot", nil
	case h.idMap == nil:
		return "namespace", nil
	case d.dialect == dialectRust:
		// It then serves files with the user's rights only.
		return "none", nil
	}
	return "", h.idMap
}

// setup returns shell commands that prepare a mount namespace for virtiofsd.
func (d daemon) setup(h hostFacts, box string, r shareRun) ([]string, error) {
	var cmds []string
	if r.share.ReadOnly && !d.readOnly {
		if !h.rootIsMount || box == "none" {
			return nil, errors.New("a read-only share needs a mount namespace here, or a virtiofsd with --readonly")
		}
		opts := strings.Join(append([]string{"ro"}, r.locked...), ",")
		cmds = append(cmds, `mount --bind -o `+opts+` -- "$0" "$0"`)
	}
	if r.privateRun && d.dialect == dialectC && h.uid != 0 {
		cmds = append(cmds, "mount -t tmpfs none /run")
	}
	return cmds, nil
}

// enter returns the words that make virtiofsd's namespaces: none for root, one with
// mapped ids for an ordinary user.
func enter(h hostFacts, box string, setup []string, dir string) []string {
	var words []string
	if h.uid != 0 && box != "none" {
		words = []string{"unshare", "--map-root-user", "--map-auto"}
	}
	if len(setup) == 0 {
		return words
	}
	if words == nil {
		words = []string{"unshare"}
	}
	script := strings.Join(append(setup, `exec "$@"`), " && ")
	return append(words, "--mount", "sh", "-c", script, dir)
}

func (d daemon) words(r shareRun, box string) []string {
	if d.dialect == dialectC {
		words := []string{
			d.path, r.listen, "-f", "-o", "source=" + escapeFuse(r.share.Dir),
			"-o", "cache=" + r.share.cache(), "-o", "sandbox=" + box, "-o", "log_level=warn",
		}
		if !r.share.Private {
			words = append(words, "-o", "modcaps="+r.share.lostRights(), "-o", "xattrmap="+attributeMap)
		}
		return words
	}
	words := []string{d.path, r.listen, "--shared-dir", r.share.Dir, "--sandbox", box, "--cache", r.share.cache()}
	if !r.share.Private {
		words = append(words, "--modcaps="+r.share.lostRights(), "--xattr", "--xattrmap", attributeMap)
	}
	if r.share.ReadOnly && d.readOnly {
		words = append(words, "--readonly")
	}
	return words
}

func (s Share) cache() string {
	if s.Steady {
		return "always"
	}
	return "auto"
}

// guarded reports whether the guest must not set set-user-ID bits.
func (s Share) guarded() bool { return !s.Private && !s.SetID && !s.ReadOnly }

// lostRights returns the capabilities that virtiofsd drops in a directory that users of
// the host can reach. It then makes no device nodes, sets no file capabilities, and
// clears set-user-ID bits when it writes to a program.
func (s Share) lostRights() string {
	if s.SetID {
		return "-mknod:-setfcap"
	}
	return "-mknod:-setfcap:-fsetid"
}

// attributeMap maps extended attributes, in virtiofsd's language: "prefix" renames the guest's
// attributes on the host, and the first matching rule applies. "user." attributes keep their names.
// Attributes that a kernel or an overlay acts upon ("security.", "trusted.overlay.…") work in the
// guest and mean nothing on the host. File capabilities can be read but not set: if they are
// renamed, the C virtiofsd removes them at each chown(2) through an unsuitable descriptor, and
// chown fails with EBADF. The host's names are hidden in the guest: otherwise a user of the guest,
// who may set "user." attributes, could give himself capabilities.
const attributeMap = ":unsupported:client:user.virtiofs.::" +
	":ok:all:security.capability:security.capability:" +
	":prefix:all:security.:user.virtiofs.:" +
	":prefix:all:trusted.:user.virtiofs.:" +
	":ok:all:user.:user.:" +
	":unsupported:all:::"

// escapeFuse writes a value for libfuse's -o lists, in which a comma separates and a
// backslash escapes the next byte.
func escapeFuse(s string) string {
	return strings.NewReplacer(`\`, `\\`, `,`, `\,`).Replace(s)
}
