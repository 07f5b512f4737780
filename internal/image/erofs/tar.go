package erofs

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"math"
	"path"
	"strings"

	"github.com/agentd-go/agentd/internal/archive"
)

// Prefixes of the names of whiteouts (OCI image specification, "Whiteouts").
const (
	whiteout     = ".wh."
	opaque       = whiteout + whiteout + ".opq"
	aufsMetadata = whiteout + whiteout // Prefix of aufs's own files, which mean nothing in an image.
)

// Prefixes of the PAX records of extended attributes and ACLs.
const (
	paxXattr = "SCHILY.xattr."
	paxACL   = "SCHILY.acl."
)

// AddLayer adds all entries of the uncompressed archive r as a new layer, and applies
// its whiteouts. The error is [archive.ErrNoEnd] if everything was added but the archive
// has no end blocks: only a digest can then show that it was not cut.
func (w *Writer) AddLayer(r io.Reader) error {
	w.NextLayer()
	t := archive.NewReader(r)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the archive: %w", err)
		}
		if err := w.addHeader(h, t); err != nil {
			return err
		}
		if _, err := io.Copy(io.Discard, t); err != nil { // The data of an entry whose type has none.
			return &EntryError{h.Name, fmt.Errorf("its content: %w", noEOF(err))}
		}
	}
}

func (w *Writer) addHeader(h *tar.Header, data io.Reader) error {
	dir, base := path.Split(strings.TrimSuffix(h.Name, "/"))
	switch {
	case h.Typeflag == tar.TypeXGlobalHeader || h.Typeflag == volumeHeader:
		return nil
	case base == opaque:
		return w.HideAll(dir + ".")
	case strings.HasPrefix(base, aufsMetadata):
		return nil
	case base == whiteout || base == whiteout+"." || base == whiteout+"..":
		return &EntryError{h.Name, errors.New("a whiteout of no name")}
	case strings.HasPrefix(base, whiteout):
		return w.Hide(dir + base[len(whiteout):])
	case h.Typeflag == tar.TypeLink:
		return w.Link(h.Name, h.Linkname)
	}
	e, err := headerEntry(h, w.leave)
	if err != nil {
		return &EntryError{h.Name, err}
	}
	return w.Add(e, data)
}

// Types of GNU tar that archive/tar has no names for.
const (
	volumeHeader = 'V' // The name of the archive.
	dumpDir      = 'D' // A directory whose data is the list of its entries.
)

// tarTypes maps the archive's types to the file types of an image.
var tarTypes = map[byte]uint16{
	tar.TypeReg: typeRegular, tar.TypeGNUSparse: typeRegular, tar.TypeCont: typeRegular, dumpDir: typeDir,
	tar.TypeSymlink: typeSymlink, tar.TypeDir: typeDir, tar.TypeChar: typeChar, tar.TypeBlock: typeBlock, tar.TypeFifo: typeFifo,
}

func headerEntry(h *tar.Header, left func(attribute string)) (Entry, error) {
	kind, ok := tarTypes[h.Typeflag]
	if !ok {
		return Entry{}, fmt.Errorf("type %q of the archive: not known", h.Typeflag)
	}
	for _, n := range []int64{int64(h.Uid), int64(h.Gid), h.Devmajor, h.Devminor} {
		if n < 0 || n > math.MaxUint32 {
			return Entry{}, fmt.Errorf("owner or device number %d: want 32 bits", n)
		}
	}
	const permissions = 0o7777
	e := Entry{
		Name: h.Name, Mode: kind | uint16(h.Mode&permissions),
		UID: uint32(h.Uid), GID: uint32(h.Gid), Mtime: h.ModTime,
		Size: h.Size, Target: h.Linkname, Major: uint32(h.Devmajor), Minor: uint32(h.Devminor),
	}
	for key, value := range h.PAXRecords {
		name, ok := strings.CutPrefix(key, paxXattr)
		if kind, text := strings.CutPrefix(key, paxACL); text {
			name = "system.posix_acl_" + kind
			value, ok = encodeACL(value)
		}
		if !ok && !strings.HasPrefix(key, paxACL) {
			continue
		}
		if !ok || !Stores(name) {
			left(name)
			continue
		}
		if e.Xattrs == nil {
			e.Xattrs = map[string]string{}
		}
		e.Xattrs[name] = value
	}
	return e, nil
}

// maxLeft bounds the names in Writer.left.
const maxLeft = 16

// leave counts an attribute that the image leaves out.
func (w *Writer) leave(name string) {
	if _, ok := w.left[name]; ok || len(w.left) < maxLeft {
		w.left[clip(name)]++
	}
}

// Left returns the attributes that were left out, with the number of entries that had each;
// sixteen names at most. These are attributes of classes that EROFS lacks, marks of overlay
// file systems, and ACLs without numeric ids.
func (w *Writer) Left() map[string]int { return w.left }
