package transfer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"strings"
	"time"
)

// An End is a name on a side.
type End struct {
	Side Side
	Name string
}

// ErrDirectory says that a directory was to be copied and nobody asked for it.
var ErrDirectory = errors.New("is a directory")

// A Plan is a copy before anything is done. Its size is that of the source's
// names: some 200 bytes for a file.
type Plan struct {
	from, to Side
	dirs     []item // Parents first.
	files    []item
	links    []item

	Files   int   // To be copied, links among them.
	Bytes   int64 // Likewise; holes count.
	Skipped int   // Right already.
	Becomes bool  // The source is a directory that becomes the target: a second time it would go into it.
	Odd     []string
}

// An item is one file, directory or link.
type item struct {
	from, to string
	mode     fs.FileMode
	size     int64
	mtime    time.Time
	link     string // What it says.
	replace  bool   // Something else has its name.
	exists   bool   // A directory that is there already.
	depth    int    // Of a directory.
}

// New plans a copy. As with cp(1), a source goes into a target that is a directory,
// and becomes the target otherwise; a source that ends in "/." is copied into the
// target itself.
func New(ctx context.Context, from, to End, recursive bool) (*Plan, error) {
	p := &Plan{from: from.Side, to: to.Side}
	contents := strings.HasSuffix(from.Name, "/.")
	info, err := p.from.Lstat(ctx, from.Name)
	if err == nil && info.Mode()&fs.ModeSymlink != 0 && (!recursive || strings.HasSuffix(from.Name, "/")) {
		info, err = p.from.Stat(ctx, from.Name) // What the link leads to is meant.
	}
	if err != nil {
		return nil, err
	}
	if info.IsDir() && !recursive {
		return nil, &fs.PathError{Op: "copy", Path: from.Name, Err: ErrDirectory}
	}
	there, err := p.to.Stat(ctx, to.Name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	target := to.Name
	if err == nil && there.IsDir() && !contents {
		target = p.to.Join(to.Name, p.from.Base(from.Name))
	} else if err != nil && strings.HasSuffix(to.Name, "/") && !info.IsDir() {
		return nil, err
	}
	p.Becomes = err != nil && info.IsDir() && !contents
	old, err := p.to.Lstat(ctx, target)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if contents && err == nil {
		old = there
	}
	return p, p.add(ctx, from.Name, target, info, old, 0)
}

// add plans one name; old is what has the target's, nil if nothing has.
func (p *Plan) add(ctx context.Context, from, to string, info, old fs.FileInfo, depth int) error {
	i := item{depth: depth, from: from, to: to, mode: info.Mode() &^ p.foreign(), mtime: info.ModTime().Truncate(time.Second)}
	switch {
	case info.IsDir():
		return p.addDir(ctx, i, old)
	case info.Mode()&fs.ModeSymlink != 0:
		return p.addLink(ctx, i, old)
	case info.Mode().IsRegular():
		i.size = info.Size()
		p.addFile(i, old)
	default:
		p.Odd = append(p.Odd, fmt.Sprintf("%s: left out: %s is no file, directory or link", from, info.Mode().Type()))
	}
	return nil
}

// foreign is what is not kept of a machine's file that comes to this host: it has
// another owner here, whose rights nobody in the machine has.
func (p *Plan) foreign() fs.FileMode {
	_, here := p.from.(Host)
	if _, arrives := p.to.(Host); here || !arrives {
		return 0
	}
	return fs.ModeSetuid | fs.ModeSetgid
}

func (p *Plan) addFile(i item, old fs.FileInfo) {
	if old != nil && old.Mode()&^fs.ModeIrregular == i.mode && old.Size() == i.size && old.ModTime().Truncate(time.Second).Equal(i.mtime) {
		p.Skipped++
		return
	}
	i.replace = old != nil && !old.Mode().IsRegular()
	p.files = append(p.files, i)
	p.Files++
	p.Bytes = min(p.Bytes, math.MaxInt64-i.size) + i.size // The sizes are somebody's word.
}

func (p *Plan) addLink(ctx context.Context, i item, old fs.FileInfo) (err error) {
	if i.link, err = p.from.ReadLink(ctx, i.from); err != nil {
		return err
	}
	if old != nil && old.Mode()&fs.ModeSymlink != 0 {
		if says, err := p.to.ReadLink(ctx, i.to); err == nil && says == i.link {
			p.Skipped++
			return nil
		}
	}
	i.replace = old != nil
	p.links = append(p.links, i)
	p.Files++
	return nil
}

func (p *Plan) addDir(ctx context.Context, i item, old fs.FileInfo) error {
	i.exists = old != nil && old.IsDir()
	i.replace = old != nil && !i.exists
	p.dirs = append(p.dirs, i)
	entries, err := p.from.ReadDir(ctx, i.from)
	if err != nil {
		return err
	}
	there, err := p.there(ctx, i)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := checkName(i.from, e.Name()); err != nil {
			return err
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // It has gone meanwhile.
		}
		if err != nil {
			return err
		}
		if err := p.add(ctx, p.from.Join(i.from, e.Name()), p.to.Join(i.to, e.Name()), info, there[e.Name()], i.depth+1); err != nil {
			return err
		}
	}
	return nil
}

// maxPath is the longest path that Linux takes (PATH_MAX): what lies deeper is a
// guest's invention, and might have no end.
const maxPath = 4096

// checkName refuses what a listing cannot hold: a guest that says so would have us
// write somewhere else.
func checkName(dir, name string) error {
	if len(dir)+len(name) > maxPath {
		return fmt.Errorf("%.100s...: lies deeper than a path of %d bytes can lead", dir, maxPath)
	}
	if name == "." || strings.Contains(name, "/") || !fs.ValidPath(name) {
		return fmt.Errorf("%s lists a file with the name %q", dir, name)
	}
	return nil
}

// there lists what is in a directory of the target.
func (p *Plan) there(ctx context.Context, i item) (map[string]fs.FileInfo, error) {
	if !i.exists {
		return nil, nil //nolint:nilnil // Nothing is there.
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
