package erofs

import (
	"errors"
	"fmt"
	"strings"
)

// A node is what stays in memory of a file or a directory of the image.
type node struct {
	mode   uint16
	at     int64  // Offset of the inode; Close sets that of a directory.
	links  uint32 // Names of a file; for a directory 2, plus 1 for each subdirectory.
	number uint32

	target string     // Target of a symbolic link.
	dir    *directory // nil for other files.
}

// A directory is the additional state of a directory until it is written.
type directory struct {
	attributes Entry
	depth      int
	parent     *node
	children   map[string]child
	hidden     int // The last layer that hid the content of earlier layers.
}

// A child is a node under one of its names.
type child struct {
	*node
	layer int // The last layer that mentioned the name.
}

func (n *node) isDir() bool { return n.dir != nil }

// components splits a name, relative to the root. It cleans the name without a look at
// the tree, as container tools do: "/a" is a, "x/../y" is y. It refuses a name that
// leads out of the root or exceeds Linux's path length. The root ("/", "." or "./") has
// no components.
func components(name string) ([]string, error) {
	if len(name) > maxPath {
		return nil, fmt.Errorf("%w: a path of %d bytes", errLimit, len(name))
	}
	if name == "" || strings.Contains(name, "\x00") {
		return nil, errName
	}
	var parts []string
	for part := range strings.SplitSeq(name, "/") {
		switch {
		case part == "" || part == ".":
			continue
		case part == ".." && len(parts) == 0:
			return nil, errName
		case part == "..":
			parts = parts[:len(parts)-1]
			continue
		case len(part) > maxName:
			return nil, fmt.Errorf("%w: a name of %d bytes", errLimit, len(part))
		}
		parts = append(parts, part)
	}
	return parts, nil
}

// A walk follows a path through the tree. It follows symbolic links within the tree, as
// the machine will; "/" is the image's root, so no link leads out.
type walk struct {
	w     *Writer
	make  bool // Create missing directories.
	links int
	steps int
}

// errMissing says that a directory of a path is missing.
var errMissing = errors.New("no such directory in the image")

// dir returns the directory that parts lead to from the directory from.
func (k *walk) dir(from *node, parts []string) (*node, error) {
	for _, part := range parts {
		if k.steps++; k.steps > maxPath {
			return nil, fmt.Errorf("%w: more than %d steps on its path", errLimit, maxPath)
		}
		next := from.dir.children[part].node
		switch {
		case part == "..":
			next = from.dir.parent
		case next == nil && !k.make:
			return nil, errMissing
		case next == nil:
			made, err := k.w.implicit(from, part)
			if err != nil {
				return nil, err
			}
			next = made
		case next.mode&typeMask == typeSymlink:
			target, err := k.follow(from, next.target)
			if err != nil {
				return nil, err
			}
			next = target
		case !next.isDir():
			return nil, fmt.Errorf("%q on its path is no directory", clip(part))
		}
		from = next
	}
	return from, nil
}

func (k *walk) follow(from *node, target string) (*node, error) {
	if k.links++; k.links > maxLinks {
		return nil, fmt.Errorf("%w: more than %d symbolic links on its path", errLimit, maxLinks)
	}
	if strings.HasPrefix(target, "/") {
		from = k.w.root
	}
	var parts []string
	for part := range strings.SplitSeq(target, "/") {
		if len(part) > maxName {
			return nil, fmt.Errorf("%w: a name of %d bytes", errLimit, len(part))
		}
		if part != "" && part != "." {
			parts = append(parts, part)
		}
	}
	return k.dir(from, parts)
}

// parent returns the directory for the last of parts.
func (w *Writer) parent(parts []string, create bool) (*node, error) {
	k := walk{w: w, make: create}
	return k.dir(w.root, parts[:len(parts)-1])
}

// implicit makes a directory that no entry describes and that the path of another entry
// needs.
func (w *Writer) implicit(parent *node, name string) (*node, error) {
	const perm = 0o755
	return w.makeDir(parent, name, Entry{Mode: typeDir | perm})
}

func (w *Writer) makeDir(parent *node, name string, e Entry) (*node, error) {
	if parent.dir.depth == maxDepth {
		return nil, fmt.Errorf("%w: directories are more than %d deep", errLimit, maxDepth)
	}
	if err := w.budget.entry(); err != nil {
		return nil, err
	}
	if err := w.budget.keep(dirCost + len(name)); err != nil {
		return nil, err
	}
	if err := w.budget.keepXattrs(e.Xattrs); err != nil {
		return nil, err
	}
	e.Name, e.Target = name, "" // An archive may give a directory a target, which means nothing.
	n := w.newNode(e.Mode)
	n.links = 2
	n.dir = &directory{attributes: e, depth: parent.dir.depth + 1, parent: parent, children: map[string]child{}}
	w.attach(parent, name, n)
	return n, nil
}

func (w *Writer) newNode(mode uint16) *node {
	w.numbers++
	return &node{mode: mode, number: w.numbers, links: 1}
}

// attach gives n a name in parent, which must not have that name yet.
func (w *Writer) attach(parent *node, name string, n *node) {
	parent.dir.children[name] = child{n, w.layer}
	if n.isDir() {
		parent.links++
	}
}

// detach removes the name, and everything beneath it, from the tree.
func (w *Writer) detach(parent *node, name string) {
	n := parent.dir.children[name].node
	delete(parent.dir.children, name)
	if n.isDir() {
		parent.links--
		w.detachAll(n)
		return
	}
	n.links--
	w.relink(n)
}

func (w *Writer) detachAll(n *node) {
	for name := range n.dir.children {
		w.detach(n, name)
	}
}

// relink notes that a file's written inode has a wrong link count.
func (w *Writer) relink(n *node) { w.relinked[n] = true }

// hide removes from c everything of earlier layers. It reports whether c must stay
// because something of this layer is in it.
func (w *Writer) hide(c child) (stays bool) {
	if c.isDir() {
		w.hideAll(c.node)
		return c.layer == w.layer || len(c.dir.children) > 0
	}
	return c.layer == w.layer
}

// hideAll hides everything in a directory. It works once in a layer, so that an archive
// that repeats an opaque whiteout costs no more time.
func (w *Writer) hideAll(n *node) {
	if n.dir.hidden == w.layer {
		return
	}
	n.dir.hidden = w.layer
	for name, c := range n.dir.children {
		if !w.hide(c) {
			w.detach(n, name)
		}
	}
}
