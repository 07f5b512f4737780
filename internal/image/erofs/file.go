package erofs

import (
	"fmt"
	"io"
	"strings"
)

// writeFile writes a file that is no directory: its data, then its inode.
func (w *Writer) writeFile(e Entry, data io.Reader) (*node, error) {
	n := w.newNode(e.Mode)
	body, err := w.xattrs.encode(e.Xattrs, false)
	if err != nil {
		return nil, err
	}
	i := e.inode()
	i.number, i.links, i.xattrUnits = n.number, n.links, xattrUnits(body)
	switch e.Mode & typeMask {
	case typeRegular:
		i.size = uint64(e.Size)
	case typeSymlink:
		n.target = e.Target
		i.size, data = uint64(len(e.Target)), strings.NewReader(e.Target)
	case typeChar, typeBlock:
		i.data = device(e.Major, e.Minor)
	}
	tail, err := w.writeData(&i, len(body), data)
	if err != nil {
		return nil, err
	}
	n.at = w.space.reserve(inodeSize + len(body) + len(tail))
	w.putInode(n.at, i, body, tail)
	return n, w.space.err
}

// inode returns the inode of an entry. A zero time becomes 1970.
func (e Entry) inode() inode {
	i := inode{mode: e.Mode, uid: e.UID, gid: e.GID}
	if !e.Mtime.IsZero() {
		i.mtime, i.nanosecond = e.Mtime.Unix(), uint32(e.Mtime.Nanosecond())
	}
	return i
}

// inline reports whether the last, partial block of size bytes can follow the inode
// directly. The inode, its attributes (body bytes) and that tail must fit into one
// block.
func inline(size uint64, body int) bool {
	tail := int(size % blockSize)
	return tail > 0 && inodeSize+body+tail <= blockSize
}

// writeData writes whole blocks of data, and returns the tail that follows the inode.
func (w *Writer) writeData(i *inode, body int, data io.Reader) (tail []byte, err error) {
	if i.size == 0 {
		return nil, nil
	}
	blocks := i.size
	if inline(i.size, body) {
		i.layout = flatInline
		blocks -= i.size % blockSize
		tail = make([]byte, i.size%blockSize)
	}
	if blocks > 0 {
		first, err := w.space.readBlocks(data, int64(blocks))
		if err != nil {
			return nil, fmt.Errorf("its content: %w", noEOF(err))
		}
		i.data = uint32(first)
	}
	if _, err := io.ReadFull(data, tail); err != nil {
		return nil, fmt.Errorf("its content: %w", noEOF(err))
	}
	return tail, nil
}

// noEOF turns io.EOF into io.ErrUnexpectedEOF.
func noEOF(err error) error {
	if err == io.EOF { //nolint:errorlint // io.ReadFull does not wrap it.
		return io.ErrUnexpectedEOF
	}
	return err
}

// putInode writes an inode, its attributes and its tail to a reserved place.
func (w *Writer) putInode(at int64, i inode, body, tail []byte) {
	w.buffer = append(w.buffer[:0], zeros[:inodeSize]...)
	i.encode(w.buffer)
	w.buffer = append(append(w.buffer, body...), tail...)
	w.space.put(w.buffer, at)
}
