package erofs

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// An Entry is a file or directory to be written.
type Entry struct {
	Name   string // A path beneath the root, with slashes; "." is the root.
	Mode   uint16 // Type and permissions, as in inode(7).
	UID    uint32
	GID    uint32
	Mtime  time.Time
	Size   int64  // Of a regular file.
	Target string // Of a symbolic link.
	Major  uint32 // Of a device.
	Minor  uint32
	Xattrs map[string]string // By full name: user.NAME, security.NAME and so on.
}

// Options are a Writer's settings.
type Options struct {
	UUID   [16]byte
	Volume string // The volume's name, at most 16 bytes.
	Limits Limits
}

// A Writer writes one image. It is not safe for concurrent use. After an error neither
// the Writer nor the image can be used.
type Writer struct {
	space    *space
	xattrs   *xattrs
	budget   budget
	root     *node
	layer    int
	numbers  uint32
	newest   int64
	relinked map[*node]bool // Files whose written inodes have a wrong link count.
	left     map[string]int // Attributes that are left out; see Left.
	super    super
	buffer   []byte // Scratch space for an inode with its attributes and tail.
}

// NewWriter starts an image in f, which must be empty.
func NewWriter(f File, o Options) *Writer {
	w := &Writer{
		space:    newSpace(f),
		budget:   budget{limits: o.Limits.withDefaults()},
		relinked: map[*node]bool{},
		left:     map[string]int{},
		super:    super{uuid: o.UUID},
		buffer:   make([]byte, 0, blockSize),
	}
	copy(w.super.volume[:], o.Volume)
	w.xattrs = &xattrs{space: w.space, keep: w.budget.keep, base: -1, seen: map[string]uint32{}}
	const perm = 0o755
	w.root = w.newNode(typeDir | perm)
	w.root.links = 2
	w.root.dir = &directory{attributes: Entry{Mode: typeDir | perm}, parent: w.root, children: map[string]child{}}
	return w
}

// NextLayer begins a layer, including the first. Later entries replace those of earlier
// layers. [Writer.Hide] and [Writer.HideAll] hide only entries of earlier layers.
func (w *Writer) NextLayer() { w.layer++ }

// Add adds an entry; data is the content of a regular file, of e.Size bytes, and is
// read before Add returns. Missing directories are made (mode 0755, root's, time 0). An
// entry replaces another of the same name; two directories are merged.
func (w *Writer) Add(e Entry, data io.Reader) error {
	if err := w.add(e, data); err != nil {
		return &EntryError{e.Name, err}
	}
	return nil
}

func (w *Writer) add(e Entry, data io.Reader) error {
	parts, err := components(e.Name)
	if err != nil {
		return err
	}
	if err := w.check(e); err != nil {
		return err
	}
	w.newest = max(w.newest, e.Mtime.Unix())
	if len(parts) == 0 {
		return w.setRoot(e)
	}
	parent, err := w.parent(parts, true)
	if err != nil {
		return err
	}
	name := parts[len(parts)-1]
	if e.Mode&typeMask == typeDir {
		return w.addDir(parent, name, e)
	}
	if err := w.clear(parent, name); err != nil {
		return err
	}
	if err := w.budget.entry(); err != nil {
		return err
	}
	if err := w.budget.keep(fileCost + len(name) + len(e.Target)); err != nil {
		return err
	}
	n, err := w.writeFile(e, data)
	if err != nil {
		return err
	}
	w.attach(parent, name, n)
	return nil
}

// check refuses an entry that EROFS or Linux cannot represent, and counts it.
func (w *Writer) check(e Entry) error {
	switch e.Mode & typeMask {
	case typeRegular:
		if err := w.budget.data(e.Size); err != nil {
			return err
		}
	case typeSymlink:
		if e.Target == "" || len(e.Target) > maxTarget || strings.Contains(e.Target, "\x00") {
			return fmt.Errorf("a link to %d bytes: want 1 to %d without NUL", len(e.Target), maxTarget)
		}
	case typeChar, typeBlock:
		if e.Major > maxMajor || e.Minor > maxMinor {
			return fmt.Errorf("device %d:%d: Linux has numbers up to %d:%d", e.Major, e.Minor, maxMajor, maxMinor)
		}
	case typeDir, typeFifo, typeSocket:
	default:
		return fmt.Errorf("mode %#o is of no type", e.Mode)
	}
	for name, value := range e.Xattrs {
		if _, err := encodeXattr(name, value); err != nil {
			return err
		}
		if err := w.budget.xattr(len(name) + len(value)); err != nil {
			return err
		}
	}
	return nil
}

func (w *Writer) setRoot(e Entry) error {
	if e.Mode&typeMask != typeDir {
		return errors.New("the root is a directory")
	}
	if err := w.budget.keepXattrs(e.Xattrs); err != nil {
		return err
	}
	e.Target = ""
	w.root.mode, w.root.dir.attributes = e.Mode, e
	return nil
}

func (w *Writer) addDir(parent *node, name string, e Entry) error {
	if c := parent.dir.children[name]; c.node != nil && c.isDir() {
		if err := w.budget.keepXattrs(e.Xattrs); err != nil {
			return err
		}
		e.Name, e.Target = name, ""
		c.mode, c.dir.attributes = e.Mode, e
		parent.dir.children[name] = child{c.node, w.layer}
		return nil
	}
	if err := w.clear(parent, name); err != nil {
		return err
	}
	_, err := w.makeDir(parent, name, e)
	return err
}

// clear removes the entry that another replaces.
func (w *Writer) clear(parent *node, name string) error {
	c := parent.dir.children[name]
	if c.node == nil {
		return nil
	}
	if w.hide(c) {
		return errRepeat
	}
	w.detach(parent, name)
	return nil
}

// Link gives a file a second name. It follows no symbolic link at the end of
// target.
func (w *Writer) Link(name, target string) error {
	if err := w.link(name, target); err != nil {
		return &EntryError{name, fmt.Errorf("hard link to %q: %w", clip(target), err)}
	}
	return nil
}

func (w *Writer) link(name, target string) error {
	n, err := w.find(target)
	if err != nil {
		return err
	}
	if n.isDir() {
		return errors.New("it is a directory")
	}
	parts, err := components(name)
	if err != nil || len(parts) == 0 {
		return errName
	}
	parent, err := w.parent(parts, true)
	if err != nil {
		return err
	}
	last := parts[len(parts)-1]
	if parent.dir.children[last].node == n {
		return errors.New("a link to itself")
	}
	if err := w.clear(parent, last); err != nil {
		return err
	}
	if err := w.budget.entry(); err != nil {
		return err
	}
	if err := w.budget.keep(fileCost + len(last)); err != nil {
		return err
	}
	n.links++
	w.relink(n)
	w.attach(parent, last, n)
	return nil
}

func (w *Writer) find(name string) (*node, error) {
	parts, err := components(name)
	if err != nil {
		return nil, err
	}
	if len(parts) == 0 {
		return w.root, nil
	}
	parent, err := w.parent(parts, false)
	if err != nil {
		return nil, err
	}
	if n := parent.dir.children[parts[len(parts)-1]].node; n != nil {
		return n, nil
	}
	return nil, errors.New("no such file in the image before it")
}

// Hide applies a whiteout: it removes the entry of earlier layers at name. A missing
// entry is no error.
func (w *Writer) Hide(name string) error {
	parts, err := components(name)
	if err == nil && len(parts) == 0 {
		err = errName
	}
	if err == nil {
		err = w.budget.entry()
	}
	if err != nil {
		return &EntryError{name, err}
	}
	parent, err := w.parent(parts, false)
	if err != nil {
		return nil //nolint:nilerr // A missing directory hides nothing.
	}
	last := parts[len(parts)-1]
	if c := parent.dir.children[last]; c.node != nil && !w.hide(c) {
		w.detach(parent, last)
	}
	return nil
}

// HideAll makes the directory name opaque: it removes what earlier layers have put into
// it. A missing directory is no error.
func (w *Writer) HideAll(name string) error {
	parts, err := components(name)
	if err == nil {
		err = w.budget.entry()
	}
	if err != nil {
		return &EntryError{name, err}
	}
	k := walk{w: w}
	dir, err := k.dir(w.root, parts)
	if err != nil {
		return nil //nolint:nilerr // As for Hide.
	}
	w.hideAll(dir)
	return nil
}
