package transfer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/agentd-go/agentd/internal/pax"
)

// An End is a name on a side.
type End struct {
	Side Side
	Name string
}

// ErrDirectory says that the source is a directory and the copy is not recursive.
var ErrDirectory = errors.New("is a directory")

// An OverwriteError says that a copy would replace one type of file by another. Nothing
// has been copied then.
type OverwriteError struct {
	Name     string
	Old, New fs.FileMode // Their types.
}

func (e *OverwriteError) Error() string {
	return fmt.Sprintf("cannot overwrite %s, %s, with %s", e.Name, kind(e.Old), kind(e.New))
}

func kind(mode fs.FileMode) string {
	switch {
	case mode.IsDir():
		return "a directory"
	case mode.IsRegular():
		return "a file"
	case mode&fs.ModeSymlink != 0:
		return "a link"
	}
	return "a device, pipe or socket"
}

// A Plan is a copy that has not begun. It takes memory for the source's names: some 200
// bytes for a file.
type Plan struct {
	from   Side
	to     Target
	dirs   []item // Parents first.
	files  []item
	links  []item
	failed failures // Errors of names that cannot be copied; the others are copied.

	how     How
	archive bool // Owners and all else are kept.
	raw     bool // Names may have any bytes.

	contents bool     // The tree goes into an existing directory itself.
	source   string   // The top of the tree.
	members  []member // Of a tree, in the order of an archive.

	sync    *Sync    // What is asked for beyond a copy; nil for a copy.
	clashes []string // Of another type in the target; removed before the copy.
	extras  []extra  // Not in the source; removed after it.
	stale   int      // Directories that are new, or whose time or permissions differ.

	through *End // The device or pipe at the target, which gets the source's bytes; nil for none.

	foreign fs.FileMode // Mode bits that are not kept.

	Files   int   // Files and links to copy.
	Bytes   int64 // Bytes to copy; holes count.
	Skipped int   // Files that are up to date.
	Becomes bool  // The source directory becomes the target; the same copy repeated would go into the target.
	Odd     []string
}

// An item is one file, directory or link, with its name below the target.
type item struct {
	from, to string
	mode     fs.FileMode
	size     int64
	mtime    time.Time
	link     string      // The target of a link.
	replace  bool        // For a link: its name exists as a file or link.
	old      fs.FileInfo // For a file: the file that it replaces; nil for none.
	exists   bool        // For a directory: it exists already.
	depth    int         // For a directory: its depth.
}

// Close closes the target's directory.
func (p *Plan) Close() error { return p.to.Close() }

// How says what a copy takes.
type How int

// The ways to copy.
const (
	Files How = iota // Refuses a directory.
	Tree             // With directories and what is in them.
	// Exact is Tree, and keeps owners, hard links, extended attributes, devices and fifos
	// where both sides can. An ordinary user of this host can keep no owners and devices here.
	Exact
)

// New plans a copy. As with cp(1), a source goes into a target that is a directory, and
// becomes the target otherwise; a source that ends in "/." is copied into the target
// itself. A directory never replaces another type of file, and no other type replaces a
// directory. The caller must close the plan.
func New(ctx context.Context, from, to End, how How) (*Plan, error) {
	return (&Plan{how: how}).make(ctx, from, to)
}

func (p *Plan) make(ctx context.Context, from, to End) (*Plan, error) {
	info, err := source(ctx, from, p.how != Files)
	if err != nil {
		return nil, err
	}
	there, err := to.Side.Stat(ctx, to.Name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err != nil && strings.HasSuffix(to.Name, "/") && !info.IsDir() {
		return nil, err
	}
	p.from, p.source, p.foreign = from.Side, from.Name, foreign(from.Side, to.Side)
	if err == nil && !there.IsDir() && !there.Mode().IsRegular() {
		return p.pour(from, to, info, there)
	}
	target, err := p.place(ctx, from, to, info, there)
	if err == nil && info.IsDir() {
		err = p.list(ctx)
		p.raw = p.mayStream()
		p.archive = p.how == Exact && p.raw
	}
	if err == nil {
		err = p.plan(ctx, from.Name, target, info)
	}
	if err != nil {
		return nil, errors.Join(err, p.to.Close())
	}
	return p, nil
}

// source returns the description of the source.
func source(ctx context.Context, from End, recursive bool) (fs.FileInfo, error) {
	info, err := from.Side.Lstat(ctx, from.Name)
	if err == nil && info.Mode()&fs.ModeSymlink != 0 && (!recursive || strings.HasSuffix(from.Name, "/")) {
		info, err = from.Side.Stat(ctx, from.Name) // Copy the target of the link.
	}
	switch {
	case err != nil:
		return nil, err
	case info.IsDir() && !recursive:
		return nil, &fs.PathError{Op: "copy", Path: from.Name, Err: ErrDirectory}
	case !info.IsDir() && !info.Mode().IsRegular() && info.Mode()&fs.ModeSymlink == 0:
		return nil, &fs.PathError{Op: "copy", Path: from.Name, Err: errors.New("is no file, directory or link")}
	}
	return info, nil
}

// pour plans to write a file to the device or pipe at the target.
func (p *Plan) pour(from, to End, info, there fs.FileInfo) (*Plan, error) {
	if !info.Mode().IsRegular() {
		return nil, &OverwriteError{to.Name, there.Mode().Type(), info.Mode().Type()}
	}
	p.to = to.Side.Below(to.Side.Dir(to.Name))
	p.through = &to
	p.files = []item{{from: from.Name, size: info.Size()}}
	p.Files, p.Bytes = 1, info.Size()
	return p, nil
}

// place chooses the directory below which the copy writes, and returns the name in it.
// there describes the target's name, links followed; nil if it does not exist. A tree is
// written below its own top directory, so that no link in it leads to its siblings.
func (p *Plan) place(ctx context.Context, from, to End, info, there fs.FileInfo) (name string, err error) {
	contents := strings.HasSuffix(from.Name, "/.")
	base := from.Side.Base(from.Name)
	switch isDir := there != nil && there.IsDir(); {
	case isDir && (contents || base == "/" || base == "." || base == ".."):
		p.to = to.Side.Below(to.Name)
		p.contents = true
		return ".", nil
	case isDir && !info.IsDir():
		p.to = to.Side.Below(to.Name)
		return base, nil
	case isDir:
		to.Name = to.Side.Join(to.Name, base)
	case !info.IsDir():
		p.to = to.Side.Below(to.Side.Dir(to.Name))
		return to.Side.Base(to.Name), nil
	}
	p.Becomes = there == nil && !contents
	p.to = to.Side.Top(to.Name)
	old, err := to.Side.Lstat(ctx, to.Name)
	if err == nil && !old.IsDir() {
		return "", &OverwriteError{to.Name, old.Mode().Type(), fs.ModeDir}
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return ".", err
}

func (p *Plan) plan(ctx context.Context, from, target string, info fs.FileInfo) error {
	old, err := p.to.Lstat(ctx, target)
	if errors.Is(err, fs.ErrNotExist) {
		old, err = nil, nil
	}
	if err != nil {
		return err
	}
	if info.IsDir() {
		return p.addDir(ctx, p.item(from, target, info, 0), old)
	}
	return p.add(ctx, from, target, info, old, 0)
}

func (p *Plan) item(from, to string, info fs.FileInfo, depth int) item {
	mtime := info.ModTime()
	if p.sync == nil {
		mtime = mtime.Truncate(time.Second)
	}
	return item{depth: depth, from: from, to: to, mode: info.Mode() &^ p.foreign, mtime: mtime}
}

// add plans one name; old describes the existing file at the target, nil for none.
func (p *Plan) add(ctx context.Context, from, to string, info, old fs.FileInfo, depth int) error {
	i := p.item(from, to, info, depth)
	switch {
	case info.IsDir():
		return p.addBelow(ctx, i, old)
	case info.Mode()&fs.ModeSymlink != 0:
		return p.addLink(ctx, i, old)
	case info.Mode().IsRegular():
		i.size = info.Size()
		return p.addFile(ctx, i, old)
	}
	return p.addSpecial(ctx, i, info, old)
}

// foreign returns the mode bits that a machine's file loses on this host: set-user-ID
// and set-group-ID would grant the rights of another owner here.
func foreign(from, to Side) fs.FileMode {
	_, here := from.(Host)
	if _, arrives := to.(Host); here || !arrives {
		return 0
	}
	return fs.ModeSetuid | fs.ModeSetgid
}

func (p *Plan) addFile(ctx context.Context, i item, old fs.FileInfo) error {
	if old != nil && !old.Mode().IsRegular() && old.Mode()&fs.ModeSymlink == 0 {
		if !p.clash(ctx, i.to, old) {
			return &OverwriteError{i.to, old.Mode().Type(), 0}
		}
		old = nil
	}
	if old != nil && old.Mode()&^fs.ModeIrregular == i.mode && old.Size() == i.size && p.sameTime(i, old) {
		p.Skipped++
		return nil
	}
	if old != nil && old.Mode().IsRegular() {
		i.old = old
	}
	p.files = append(p.files, i)
	p.note(i, pax.Regular)
	p.Files++
	p.Bytes = min(p.Bytes, math.MaxInt64-i.size) + i.size // Sizes may be false; avoid an overflow.
	return nil
}

func (p *Plan) addLink(ctx context.Context, i item, old fs.FileInfo) (err error) {
	if old != nil && !old.Mode().IsRegular() && old.Mode()&fs.ModeSymlink == 0 {
		if !p.clash(ctx, i.to, old) {
			return &OverwriteError{i.to, old.Mode().Type(), fs.ModeSymlink}
		}
		old = nil
	}
	if i.link, err = p.from.ReadLink(ctx, i.from); err == nil {
		err = p.asText(i.from, i.link)
	}
	if err != nil {
		p.failed.add(err)
		return nil
	}
	if old != nil && old.Mode()&fs.ModeSymlink != 0 {
		if says, err := p.to.ReadLink(ctx, i.to); err == nil && says == i.link {
			p.Skipped++
			return nil
		}
	}
	i.replace = old != nil
	p.links = append(p.links, i)
	p.note(i, pax.Symlink)
	p.Files++
	return nil
}

// addBelow is addDir for a directory below the source. If it cannot be listed, the rest
// is still copied.
func (p *Plan) addBelow(ctx context.Context, i item, old fs.FileInfo) error {
	err := p.addDir(ctx, i, old)
	if refused, ok := errors.AsType[*listError](err); ok && refused.dir == i.from {
		p.failed.add(refused.err)
		return nil
	}
	return err
}

// A listError says that a directory of the source cannot be listed.
type listError struct {
	dir string
	err error
}

func (e *listError) Error() string { return e.err.Error() }

func (e *listError) Unwrap() error { return e.err }

func (p *Plan) addDir(ctx context.Context, i item, old fs.FileInfo) error {
	if i.exists = old != nil && old.IsDir(); old != nil && !i.exists && !p.clash(ctx, i.to, old) {
		return &OverwriteError{i.to, old.Mode().Type(), fs.ModeDir}
	}
	if !i.exists || old.Mode() != i.mode || !p.sameTime(i, old) {
		p.stale++
	}
	entries, err := p.from.ReadDir(ctx, i.from)
	if err != nil {
		return &listError{i.from, err}
	}
	p.dirs = append(p.dirs, i)
	p.note(i, pax.Directory)
	there, err := p.there(ctx, i)
	if err != nil {
		return err
	}
	names := make(map[string]bool, len(entries))
	for _, e := range entries {
		if err := checkName(i.from, e.Name()); err != nil {
			return err
		}
		if names[e.Name()] {
			return fmt.Errorf("%s lists %q twice", i.from, e.Name())
		}
		names[e.Name()] = true
		if p.excluded(path.Join(i.to, e.Name())) {
			continue
		}
		if err := p.addEntry(ctx, i, e, there[e.Name()]); err != nil {
			return err
		}
	}
	return p.addExtras(ctx, i, names, there)
}

// addEntry plans one entry of a directory.
func (p *Plan) addEntry(ctx context.Context, dir item, e fs.DirEntry, old fs.FileInfo) error {
	if err := p.asText(dir.from, e.Name()); err != nil {
		p.failed.add(err)
		return nil
	}
	info, err := e.Info()
	if errors.Is(err, fs.ErrNotExist) {
		return nil // It was removed meanwhile.
	}
	if err != nil {
		return err
	}
	return p.add(ctx, p.from.Join(dir.from, e.Name()), path.Join(dir.to, e.Name()), info, old, dir.depth+1)
}

// maxPath is the longest path that Linux accepts (PATH_MAX). A guest could invent
// deeper directories without end.
const maxPath = 4096

// checkName refuses names that no directory can hold. With such a name a guest could
// make us write elsewhere.
func checkName(dir, name string) error {
	if len(dir)+len(name) > maxPath {
		return fmt.Errorf("%.100s...: lies deeper than a path of %d bytes can lead", dir, maxPath)
	}
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		return fmt.Errorf("%s lists a file with the name %q", dir, name)
	}
	return nil
}

// asText is the function, for copies by requests. Archives have any bytes.
func (p *Plan) asText(where, s string) error {
	if p.raw {
		return nil
	}
	return asText(where, s)
}

// asText refuses a name or a link's target that is not UTF-8, because paths in requests to
// an agent are text. The agent shows U+FFFD in place of each invalid byte.
func asText(where, s string) error {
	if !utf8.ValidString(s) || strings.ContainsRune(s, utf8.RuneError) {
		return fmt.Errorf("%s: %q is not copied: it is not UTF-8, which all paths of the protocol are", where, s)
	}
	return nil
}

// there lists the files in a directory of the target.
func (p *Plan) there(ctx context.Context, i item) (map[string]fs.FileInfo, error) {
	if !i.exists {
		return nil, nil //nolint:nilnil // The directory does not exist.
	}
	entries, err := p.to.ReadDir(ctx, i.to)
	if err != nil {
		return nil, err
	}
	all := make(map[string]fs.FileInfo, len(entries))
	for _, e := range entries {
		info, err := e.Info()
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if err == nil {
			all[e.Name()] = info
		}
	}
	return all, nil
}
