package vmm

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// probeTimeout is for programs that print and exit (10 ms here); a machine under
// heavy load takes a hundred times that. probeTail is how long what such a program
// has started may still hold its output after its end.
const (
	probeTimeout = 5 * time.Second
	probeTail    = 100 * time.Millisecond
)

// dialect is which of the two programs named virtiofsd this is.
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

// hostFacts are what the choice of a virtiofsd command depends on.
type hostFacts struct {
	uid int

	// self is this program's path: what serves files to a guest is started through
	// it, see guardWord.
	self string

	// rootIsMount is false in a plain chroot, where pivot_root cannot work.
	rootIsMount bool

	// idMap is nil where an ordinary user can get a range of user ids for a
	// namespace of his own, else the reason with its remedy.
	idMap error
}

// identifyDaemon asks the program itself: paths and version numbers of the two
// overlap between distributions.
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

// parseHelp takes the C program by its complaint too: it drops its groups before it
// looks at its arguments, and an ordinary user gets no other word out of it.
func parseHelp(help string) (d daemon, known bool) {
	switch {
	case strings.Contains(help, "--shared-dir"):
		return daemon{dialect: dialectRust, readOnly: strings.Contains(help, "--readonly")}, true
	case strings.Contains(help, "-o source="), strings.Contains(help, "setgroups() failed"):
		return daemon{dialect: dialectC}, true
	}
	return daemon{}, false
}

// guardWord as its first argument makes this program execute the others under the
// filter of setIDFilter. The filter has to be put on behind unshare(1), whose helpers
// are set-user-ID programs and cannot work under it. So a program has to stand between
// the two, and this one is there wherever the package is.
const guardWord = "agentd-vmm-without-set-id"

// A shareRun is one virtiofsd command before it is chosen.
type shareRun struct {
	share  Share
	listen string // "--fd=3" or "--socket-path=…"

	// locked are mount options that a user namespace may not drop from the mount
	// that holds the directory.
	locked []string

	// privateRun hides /run behind an empty one: the C program keeps a lock file in
	// /var/run when it makes its own socket, which only root may write.
	privateRun bool
}

// command returns the words to run, or why this host cannot.
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
		// It then serves files as the user alone and has the user's rights.
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

// enter returns the words that lead into the namespaces that virtiofsd expects to
// find itself in: as root none, as an ordinary user one with mapped ids.
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

// guarded says that the guest may not set set-user-ID bits.
func (s Share) guarded() bool { return !s.Private && !s.SetID && !s.ReadOnly }

// lostRights are what virtiofsd does without where users of the host may come by: no
// device nodes, no capabilities of files, and no right to write to a set-user-ID
// program and leave it one.
func (s Share) lostRights() string {
	if s.SetID {
		return "-mknod:-setfcap"
	}
	return "-mknod:-setfcap:-fsetid"
}

// attributeMap says which extended attributes the guest has, in virtiofsd's words:
// "prefix" renames the guest's on the host, and the first rule that fits holds. The
// guest's users have "user." as it is. What a kernel or an overlay acts upon ("security.",
// "trusted.overlay.…") works in the guest and means nothing on the host. Capabilities of
// files can be read and not set: with another name for them the C virtiofsd takes them off
// at each chown(2) by a descriptor that is none for that, and chown answers EBADF. The name that it has there is no name in the guest: a user of the guest,
// who may set "user.", would give himself capabilities.
const attributeMap = ":unsupported:client:user.virtiofs.::" +
	":ok:all:security.capability:security.capability:" +
	":prefix:all:security.:user.virtiofs.:" +
	":prefix:all:trusted.:user.virtiofs.:" +
	":ok:all:user.:user.:" +
	":unsupported:all:::"

// escapeFuse writes a value for libfuse's -o lists, where a comma separates and a
// backslash takes the next byte as it is.
func escapeFuse(s string) string {
	return strings.NewReplacer(`\`, `\\`, `,`, `\,`).Replace(s)
}
