package image

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"

	reading "github.com/erofs/go-erofs"

	"github.com/agentd-go/agentd/internal/image/erofs"
)

// whiteout is the prefix of names by which a layer hides files of lower layers.
const whiteout = ".wh."

// acls is the prefix of ACL attributes. EROFS stores them as classes without a name.
const acls = "system.posix_acl_"

// errUnreadable says that an EROFS image is damaged or not of the form that we write.
var errUnreadable = errors.New("damaged EROFS")

// writeLayer writes the root in the EROFS file f as the one archive of a layer. The same
// root gives the same bytes. Sockets are left out, because no archive can hold them; it
// calls left with the name of each.
func writeLayer(ctx context.Context, f io.ReaderAt, to io.Writer, left func(name string)) error {
	root, err := reading.Open(f)
	if err != nil {
		return fmt.Errorf("read EROFS: %w", err)
	}
	return writeTree(ctx, root, to, left)
}

// writeTree writes a directory of an EROFS file system as writeLayer does.
func writeTree(ctx context.Context, root fs.FS, to io.Writer, left func(name string)) error {
	w := &layerWriter{ctx: ctx, root: root, tar: tar.NewWriter(to), left: left, links: map[int64]string{}}
	if err := fs.WalkDir(root, ".", w.visit); err != nil {
		return err
	}
	return w.tar.Close()
}

// A layerWriter is one use of writeLayer.
type layerWriter struct {
	ctx     context.Context //nolint:containedctx // The writer is the call.
	root    fs.FS
	tar     *tar.Writer
	left    func(string)
	links   map[int64]string // First names of files that have several.
	entries int
}

func (w *layerWriter) visit(name string, d fs.DirEntry, err error) error {
	if err == nil {
		err = w.entry(name, d)
	}
	if err != nil {
		return fmt.Errorf("%q: %w", name, err)
	}
	return nil
}

func (w *layerWriter) entry(name string, d fs.DirEntry) error {
	if err := context.Cause(w.ctx); err != nil {
		return err
	}
	if err := w.check(name, d); err != nil {
		return err
	}
	info, err := d.Info()
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*reading.Stat)
	if !ok {
		return fmt.Errorf("%w: no attributes", errUnreadable)
	}
	h, err := w.header(name, info, st)
	if h == nil || err != nil {
		return err
	}
	return w.write(h)
}

// check refuses entries that the machine's kernel would refuse, because another program
// may have written the image.
func (w *layerWriter) check(name string, d fs.DirEntry) error {
	const maxPath = 4096 // PATH_MAX; it also ends a directory that contains itself.
	base := path.Base(name)
	switch w.entries++; {
	case w.entries > erofs.DefaultLimits.Entries:
		return fmt.Errorf("%w: more than %d entries", errUnreadable, erofs.DefaultLimits.Entries)
	case len(name) > maxPath:
		return fmt.Errorf("%w: a path of %d bytes", errUnreadable, len(name))
	case name != "." && (d.Name() != base || !fs.ValidPath(base)):
		return fmt.Errorf("%w: the name %q", errUnreadable, d.Name())
	case strings.HasPrefix(base, whiteout):
		return fmt.Errorf("a layer cannot have a name that begins with %q", whiteout)
	}
	return nil
}

// header returns nil for a socket, which no archive can hold.
func (w *layerWriter) header(name string, info fs.FileInfo, st *reading.Stat) (*tar.Header, error) {
	h := &tar.Header{
		Name: name, Mode: int64(permissions(st.Mode)), Uid: int(st.UID), Gid: int(st.GID),
		ModTime: time.Unix(int64(st.Mtime), int64(st.MtimeNs)), Format: tar.FormatPAX, PAXRecords: map[string]string{},
	}
	for key, value := range st.Xattrs {
		if strings.HasPrefix(key, acls) { // The library adds the dot that ends other classes.
			key = strings.TrimSuffix(key, ".")
		}
		h.PAXRecords["SCHILY.xattr."+key] = value
	}
	mode := info.Mode()
	if first, ok := w.links[st.Ino]; ok && !mode.IsDir() {
		h.Typeflag, h.Linkname, h.PAXRecords = tar.TypeLink, first, nil
		return h, nil
	}
	if st.Nlink > 1 && !mode.IsDir() {
		w.links[st.Ino] = name
	}
	return h, w.kind(h, mode, st)
}

// kind fills in the fields that depend on the file's type.
func (w *layerWriter) kind(h *tar.Header, mode fs.FileMode, st *reading.Stat) (err error) {
	const maxTarget = 4095 // Linux's limit; it also bounds the memory.
	switch mode.Type() {   //nolint:exhaustive // The types of files; default are bits that are none.
	case 0:
		h.Typeflag, h.Size = tar.TypeReg, st.Size
	case fs.ModeDir:
		h.Typeflag, h.Name = tar.TypeDir, h.Name+"/"
	case fs.ModeSymlink:
		if st.Size > maxTarget {
			return fmt.Errorf("%w: a link to %d bytes", errUnreadable, st.Size)
		}
		h.Typeflag = tar.TypeSymlink
		h.Linkname, err = fs.ReadLink(w.root, h.Name)
	case fs.ModeNamedPipe:
		h.Typeflag = tar.TypeFifo
	case fs.ModeDevice:
		h.Typeflag = tar.TypeBlock
		h.Devmajor, h.Devminor = deviceParts(st.Rdev)
	case fs.ModeDevice | fs.ModeCharDevice:
		h.Typeflag = tar.TypeChar
		h.Devmajor, h.Devminor = deviceParts(st.Rdev)
	case fs.ModeSocket:
		w.left(h.Name)
		h.Typeflag = 0
	default:
		err = fmt.Errorf("%w: of type %v", errUnreadable, mode.Type())
	}
	return err
}

// permissions are the twelve bits of chmod.
func permissions(mode fs.FileMode) fs.FileMode {
	const setUID, setGID, sticky = 0o4000, 0o2000, 0o1000
	p := mode.Perm()
	for bit, is := range map[fs.FileMode]fs.FileMode{setUID: fs.ModeSetuid, setGID: fs.ModeSetgid, sticky: fs.ModeSticky} {
		if mode&is != 0 {
			p |= bit
		}
	}
	return p
}

// deviceParts undoes the kernel's 32-bit form of a device number.
func deviceParts(n uint32) (major, minor int64) {
	return int64(n >> 8 & 0xfff), int64(n&0xff | n>>12&0xfff00)
}

func (w *layerWriter) write(h *tar.Header) error {
	if h.Typeflag == 0 {
		return nil
	}
	if err := w.tar.WriteHeader(h); err != nil {
		return err
	}
	if h.Typeflag != tar.TypeReg || h.Size == 0 {
		return nil
	}
	f, err := w.root.Open(h.Name)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	n, err := io.Copy(w.tar, f)
	if err == nil && n < h.Size {
		err = fmt.Errorf("%w: %d bytes of %d", errUnreadable, n, h.Size)
	}
	return err
}
