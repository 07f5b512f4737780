package transfer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/agentd-go/agentd/internal/pax"
	"github.com/agentd-go/agentd/internal/tree"
)

// A Sync makes a directory the same as another. It is a copy of the source's contents into the
// target, which compares times to the nanosecond and may also remove.
type Sync struct {
	How     How      // [Tree] or [Exact].
	Delete  bool     // Remove names of the target that are not in the source.
	Exclude []string // Patterns as [client.PackOptions] has them; what they match is neither copied nor removed.
}

// Plan plans a sync; see [New]. Without Delete no file replaces one of another type. The caller
// must close the plan.
func (s *Sync) Plan(ctx context.Context, from, to End) (*Plan, error) {
	if err := tree.Patterns(s.Exclude).Check(); err != nil {
		return nil, err
	}
	info, err := from.Side.Stat(ctx, from.Name)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return nil, &fs.PathError{Op: "sync", Path: from.Name, Err: errors.New("is no directory")}
	}
	there, err := to.Side.Stat(ctx, to.Name)
	if err == nil && !there.IsDir() {
		return nil, &OverwriteError{to.Name, there.Mode().Type(), fs.ModeDir}
	}
	from.Name = strings.TrimRight(from.Name, "/") + "/."
	return (&Plan{how: s.How, sync: s}).make(ctx, from, to)
}

// An extra is a name of the target that is not in the source, in the directory dir.
type extra struct {
	name string
	dir  item
}

// exclude are the patterns of names that are left out.
func (p *Plan) exclude() []string {
	if p.sync == nil {
		return nil
	}
	return p.sync.Exclude
}

func (p *Plan) excluded(name string) bool { return tree.Patterns(p.exclude()).Match(name) }

// sameTime compares the times of a file and of its copy. A copy without nanoseconds is on a file
// system that has none, or was made by requests.
func (p *Plan) sameTime(i item, old fs.FileInfo) bool {
	t, o := i.mtime, old.ModTime()
	if p.sync == nil || o.Nanosecond() == 0 {
		t, o = t.Truncate(time.Second), o.Truncate(time.Second)
	}
	return t.Equal(o)
}

// clash plans to remove a file of the target that has another type than the source's, and reports
// whether it may.
func (p *Plan) clash(ctx context.Context, name string, old fs.FileInfo) bool {
	if p.sync == nil || !p.sync.Delete || name == "." {
		return false
	}
	removals, whole, err := p.removal(ctx, item{}, name, old.IsDir())
	if err != nil || !whole {
		return false // An excluded name below it stays.
	}
	for _, r := range removals {
		p.clashes = append(p.clashes, r.name)
	}
	return true
}

// addExtras plans to remove what the target has in a directory and the source does not have.
func (p *Plan) addExtras(ctx context.Context, dir item, names map[string]bool, there map[string]fs.FileInfo) error {
	if p.sync == nil || !p.sync.Delete {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(there)) {
		if names[name] {
			continue
		}
		removals, _, err := p.removal(ctx, dir, path.Join(dir.to, name), there[name].IsDir())
		if err != nil {
			return err
		}
		p.extras = append(p.extras, removals...)
	}
	return nil
}

// removal is what is removed of a name of the target, and whether that is all of it. What is
// excluded stays, and the directories above it.
func (p *Plan) removal(ctx context.Context, dir item, name string, isDir bool) (all []extra, whole bool, err error) {
	if p.excluded(name) {
		return nil, false, nil
	}
	if !isDir || len(p.exclude()) == 0 {
		return []extra{{name, dir}}, true, nil
	}
	entries, err := p.to.ReadDir(ctx, name)
	if err != nil {
		return nil, false, err
	}
	whole = true
	for _, e := range entries {
		if err := checkName(name, e.Name()); err != nil {
			return nil, false, err
		}
		some, gone, err := p.removal(ctx, item{}, path.Join(name, e.Name()), e.IsDir())
		if err != nil {
			return nil, false, err
		}
		all, whole = append(all, some...), whole && gone
	}
	if whole {
		all = []extra{{name, dir}}
	}
	return all, whole, nil
}

// errKept says that a sync has removed nothing.
var errKept = errors.New("what is not in the source was not removed, because not all was copied")

// doSync copies, and then removes. What stands in the way is removed before.
func (p *Plan) doSync(ctx context.Context, done *Progress) error {
	for _, name := range p.clashes {
		if err := p.remove(ctx, name, done); err != nil {
			return err
		}
	}
	err := p.failed.err()
	if p.Files > 0 || p.stale > 0 {
		err = p.copy(ctx, done)
	}
	if len(p.extras) == 0 {
		return err
	}
	if err != nil {
		return errors.Join(err, errKept)
	}
	return p.removeExtras(ctx, done)
}

func (p *Plan) remove(ctx context.Context, name string, done *Progress) error {
	if err := p.to.RemoveAll(ctx, name); err != nil {
		return err
	}
	done.Removed.Add(1)
	return nil
}

// removeExtras removes, and then gives the directories their times back.
func (p *Plan) removeExtras(ctx context.Context, done *Progress) error {
	var errs failures
	each(ctx, p.extras, func(e extra) { errs.add(p.remove(ctx, e.name, done)) })
	if err := context.Cause(ctx); err != nil {
		return err
	}
	for n, e := range p.extras {
		if e.dir.to != "" && (n == 0 || p.extras[n-1].dir.to != e.dir.to) {
			errs.add(p.to.Describe(ctx, e.dir.to, e.dir.mode, e.dir.mtime))
		}
	}
	errs.add(p.to.Settle(ctx))
	return errs.err()
}

// Failed names what could not be listed; the rest of the plan can be carried out.
func (p *Plan) Failed() error { return p.failed.err() }

// A Change is what a sync does with a name.
type Change struct {
	Do   string `json:"do"`   // copy or remove.
	Name string `json:"name"` // Below the target; a directory ends in a slash when it is made.
}

// Changes are what the plan does. Directories that exist are not among them.
func (p *Plan) Changes() []Change {
	all := []Change{}
	for _, name := range p.clashes {
		all = append(all, Change{"remove", name})
	}
	there := map[string]bool{}
	for _, i := range p.dirs {
		there[i.to] = i.exists
	}
	for _, m := range p.members {
		switch {
		case m.kind != pax.Directory:
			all = append(all, Change{"copy", m.name})
		case !there[m.name]:
			all = append(all, Change{"copy", m.name + "/"})
		}
	}
	for _, e := range p.extras {
		all = append(all, Change{"remove", e.name})
	}
	return all
}

// Changed returns the copied files that the source has changed or removed since they were listed.
// They may have been read half before and half after that.
func (p *Plan) Changed(ctx context.Context) (names []string, err error) {
	now, err := p.now(ctx)
	if err != nil {
		return nil, err
	}
	for _, i := range p.files {
		info, err := now(i)
		if errors.Is(err, fs.ErrNotExist) || err == nil && (!info.Mode().IsRegular() || info.Size() != i.size || !info.ModTime().Equal(i.mtime)) {
			names = append(names, i.from)
		} else if err != nil {
			return nil, err
		}
	}
	return names, nil
}

// now returns a function that describes a file of the source as it is now.
func (p *Plan) now(ctx context.Context) (func(item) (fs.FileInfo, error), error) {
	from, ok := p.from.(*listed)
	if !ok {
		return func(i item) (fs.FileInfo, error) { return p.from.Lstat(ctx, i.from) }, nil
	}
	all := map[string]fs.FileInfo{}
	if len(p.files) == 0 {
		return nil, nil //nolint:nilnil // There is nothing to ask for.
	}
	l, err := listTree(ctx, from.Guest, p.source, p.exclude())
	if err != nil {
		return nil, err
	}
	for dir, entries := range l.dirs {
		for _, e := range entries {
			if all[path.Join(dir, e.Name())], err = e.Info(); err != nil {
				return nil, err
			}
		}
	}
	return func(i item) (fs.FileInfo, error) {
		if info, ok := all[i.to]; ok {
			return info, nil
		}
		return nil, fmt.Errorf("%s: %w", i.from, fs.ErrNotExist)
	}, nil
}
