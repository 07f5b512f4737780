package erofs

import (
	"fmt"
	"maps"
	"slices"
)

// A listing is a directory with its place in the image, ready to be written.
type listing struct {
	node  *node
	names []string // Sorted, with "." and "..".
	body  []byte   // The encoded attributes.
	size  int      // Bytes of data: whole blocks and the used part of the last block.
	first int64    // The first block of its data.
	tail  bool     // The last, partial block stands after the inode.
}

// Close writes the directories and the super block. It does not close the file.
func (w *Writer) Close() error {
	if err := w.close(); err != nil {
		return fmt.Errorf("write EROFS image: %w", err)
	}
	return nil
}

func (w *Writer) close() error {
	for n := range w.relinked {
		w.space.put(le.AppendUint32(nil, n.links), n.at+linksOffset)
	}
	// All places are assigned first, because directories refer to each other.
	var all []*listing
	if err := w.place(w.root, &all); err != nil {
		return err
	}
	block := make([]byte, blockSize)
	for _, l := range all {
		w.writeListing(l, block)
	}
	blocks, err := w.space.close()
	if err != nil {
		return err
	}
	w.super.blocks = uint32(blocks)
	w.super.inodes = w.inodes(all)
	w.super.newestMtime = w.newest
	w.super.rootNode = rootOffset / slotSize
	if w.xattrs.base >= 0 {
		w.super.xattrBlock = uint32(w.xattrs.base)
	}
	w.super.encode(block)
	w.space.write(block, 0)
	return w.space.err
}

// place assigns a place to each directory, parents first.
func (w *Writer) place(n *node, all *[]*listing) error {
	l := &listing{node: n}
	l.names = append(slices.Collect(maps.Keys(n.dir.children)), ".", "..")
	slices.Sort(l.names)
	var err error
	if l.body, err = w.xattrs.encode(n.dir.attributes.Xattrs, n == w.root); err != nil {
		return &EntryError{n.dir.attributes.Name, err}
	}
	l.size = listSize(l.names)
	l.tail = inline(uint64(l.size), len(l.body)) && n != w.root
	w.placeData(l)
	*all = append(*all, l)
	for _, name := range l.names {
		if c := n.dir.children[name]; c.node != nil && c.isDir() {
			if err := w.place(c.node, all); err != nil {
				return err
			}
		}
	}
	return w.space.err
}

func (w *Writer) placeData(l *listing) {
	blocks := (l.size + blockSize - 1) / blockSize
	behind := inodeSize + len(l.body)
	if l.tail {
		blocks--
		behind += l.size % blockSize
	}
	l.node.at = rootOffset
	if l.node != l.node.dir.parent {
		l.node.at = w.space.reserve(behind)
	}
	if blocks > 0 {
		l.first = w.space.take(int64(blocks))
	}
}

// pack returns how many of names fit into one block, and how many bytes they take
// there.
func pack(names []string) (n, size int) {
	for _, name := range names {
		if size+direntSize+len(name) > blockSize {
			break
		}
		n, size = n+1, size+direntSize+len(name)
	}
	return n, size
}

func listSize(names []string) (size int) {
	for {
		n, used := pack(names)
		if names = names[n:]; len(names) == 0 {
			return size + used
		}
		size += blockSize
	}
}

// writeListing writes the blocks and the inode of a directory. The root's inode is in
// the block of the super block.
func (w *Writer) writeListing(l *listing, super []byte) {
	i := l.node.dir.attributes.inode()
	i.number, i.links = l.node.number, l.node.links
	i.xattrUnits, i.size, i.data = xattrUnits(l.body), uint64(l.size), uint32(l.first)
	var tail []byte
	at := l.first * blockSize
	for names := l.names; len(names) > 0; at += blockSize {
		n, size := pack(names)
		block := make([]byte, blockSize)
		l.node.list(names[:n], block)
		if names = names[n:]; len(names) == 0 && l.tail {
			i.layout, tail = flatInline, block[:size]
			break
		}
		w.space.put(block, at)
	}
	if l.node == w.root {
		i.encode(super[rootOffset : rootOffset+inodeSize])
		copy(super[rootOffset+inodeSize:], l.body)
		return
	}
	w.putInode(l.node.at, i, l.body, tail)
}

// list fills a block with directory entries, followed by their names.
func (n *node) list(names []string, block []byte) {
	at := direntSize * len(names)
	for i, name := range names {
		to := n.dir.children[name].node
		switch name {
		case ".":
			to = n
		case "..":
			to = n.dir.parent
		}
		b := block[direntSize*i:]
		le.PutUint64(b[0:], uint64(to.at/slotSize))
		le.PutUint16(b[8:], uint16(at))
		b[10] = fileType(to.mode)
		at += copy(block[at:], name)
	}
}

// inodes counts the inodes that the directories refer to.
func (w *Writer) inodes(all []*listing) (n uint64) {
	linked := map[*node]bool{}
	for _, l := range all {
		n++
		for _, c := range l.node.dir.children {
			if c.isDir() || linked[c.node] {
				continue
			}
			linked[c.node] = c.links > 1
			n++
		}
	}
	return n
}
