package erofs

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"math"
	"path"
	"strings"
)

// What the names of whiteouts begin with (OCI image specification, "Whiteouts").
const (
	whiteout     = ".wh."
	opaque       = whiteout + whiteout + ".opq"
	aufsMetadata = whiteout + whiteout // Other names: of a union file system, and of no meaning in an image.
)

// What PAX records of extended attributes and ACLs begin with.
const (
	paxXattr = "SCHILY.xattr."
	paxACL   = "SCHILY.acl."
)

// AddLayer adds all entries of an archive as a layer of its own, and carries out
// its whiteouts.
func (w *Writer) AddLayer(t *tar.Reader) error {
	w.NextLayer()
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
	}
}

func (w *Writer) addHeader(h *tar.Header, data io.Reader) error {
	dir, base := path.Split(strings.TrimSuffix(h.Name, "/"))
	switch {
	case h.Typeflag == tar.TypeXGlobalHeader:
		return nil
	case base == opaque:
		return w.HideAll(dir + ".")
	case strings.HasPrefix(base, aufsMetadata):
		return nil
	case base == whiteout:
		return &EntryError{h.Name, errors.New("a whiteout of no name")}
	case strings.HasPrefix(base, whiteout):
		return w.Hide(dir + base[len(whiteout):])
	case h.Typeflag == tar.TypeLink:
		return w.Link(h.Name, h.Linkname)
	}
	e, err := headerEntry(h)
	if err != nil {
		return &EntryError{h.Name, err}
	}
	return w.Add(e, data)
}

// tarTypes are the kinds of entries that an image can have.
var tarTypes = map[byte]uint16{
	tar.TypeReg: typeRegular, tar.TypeGNUSparse: typeRegular,
	tar.TypeSymlink: typeSymlink, tar.TypeDir: typeDir, tar.TypeChar: typeChar, tar.TypeBlock: typeBlock, tar.TypeFifo: typeFifo,
}

func headerEntry(h *tar.Header) (Entry, error) {
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
		if strings.HasPrefix(key, paxACL) {
			return Entry{}, errors.New("an ACL in text form is not read; archive it as an extended attribute (tar --xattrs without --acls)")
		}
		name, ok := strings.CutPrefix(key, paxXattr)
		if !ok {
			continue
		}
		if e.Xattrs == nil {
			e.Xattrs = map[string]string{}
		}
		e.Xattrs[name] = value
	}
	return e, nil
}
