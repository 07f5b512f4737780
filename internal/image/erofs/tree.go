package erofs

import (
	"errors"
	"fmt"
	"strings"
)

// A node is a file or a directory of the image, as far as it must be remembered.
type node struct {
	mode   uint16
	at     int64  // Offset of the inode; of a directory only at the end.
	links  uint32 // Names of a file; of a directory 2 and one for each in it.
	number uint32

	target string     // Of a symbolic link.
	dir    *directory // Of a directory.
}

// A directory is what else is known of one until it is written.
type directory struct {
	attributes Entry
	depth      int
	parent     *node
	children   map[string]child
	hidden     int // The layer that has last hidden what was there before it.
}

// A child is a node under one of its names.
type child struct {
	*node
	layer int // That has last mentioned the name.
}

func (n *node) isDir() bool { return n.dir != nil }

// components splits a name. It is taken beneath the root, as container tools do:
// "/a" is a, "x/../y" is y, by words alone. Refused is what leads out of the root, or
// is longer than Linux has paths. The root, "/", "." and "./", has no components.
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

// A walk follows a path through the tree. Links in it are followed within the
// tree, as the machine will, and cannot lead out of it: "/" is the image's root.
type walk struct {
	w     *Writer
	make  bool // Missing directories are made.
	links int
	steps int
}

// errMissing is a path whose directories are not there.
var errMissing = errors.New("no such directory in the image")

// dir returns the directory that parts lead to, from a directory.
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

// parent returns the directory that holds the last of parts.
func (w *Writer) parent(parts []string, create bool) (*node, error) {
	k := walk{w: w, make: create}
	return k.dir(w.root, parts[:len(parts)-1])
}

// implicit makes a directory that only the paths of others name.
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
	e.Name, e.Target = name, "" // An archive may say what no directory has.
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

// attach gives n a name in parent; there must be none of that name.
func (w *Writer) attach(parent *node, name string, n *node) {
	parent.dir.children[name] = child{n, w.layer}
	if n.isDir() {
		parent.links++
	}
}

// detach takes the name, and what is beneath it, out of the tree.
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

// relink notes that a file's number of links is not what its inode says.
func (w *Writer) relink(n *node) { w.relinked[n] = true }

// hide takes from c everything that earlier layers have put there. It reports
// whether anything of this layer is left, so that c has to stay itself.
func (w *Writer) hide(c child) (stays bool) {
	if c.isDir() {
		w.hideAll(c.node)
		return c.layer == w.layer || len(c.dir.children) > 0
	}
	return c.layer == w.layer
}

// hideAll does that for what is in a directory. Once in a layer is enough: an
// archive that asks again and again takes no more time.
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
