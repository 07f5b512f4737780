package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
)

const (
	diskKind   = "disks"
	diskFile   = "disk"
	diskRecipe = "disk 1"
	// copyBytes is a piece of a disk that is copied, holePiece one that is left out
	// if it is all zeros.
	copyBytes = 1 << 20
	holePiece = 64 << 10
)

// File systems that an image may be; the names are the kernel's.
const (
	fsErofs = "erofs"
	fsExt4  = "ext4"
)

// signatures tell a file system by its first bytes; the guest finds them so too
// (boot section 14). The order is of no importance.
var signatures = []struct {
	fstype string
	offset int64
	magic  string
}{
	{fsErofs, 1024, "\xe2\xe1\xf5\xe0"},
	{fsExt4, 1080, "\x53\xef"},
	{"xfs", 0, "XFSB"},
	{"btrfs", 65600, "_BHRfS_M"},
}

// diskType returns the type of the file system in r, or "".
func diskType(r io.ReaderAt) string {
	for _, s := range signatures {
		b := make([]byte, len(s.magic))
		if _, err := r.ReadAt(b, s.offset); err == nil && string(b) == s.magic {
			return s.fstype
		}
	}
	return ""
}

// isPartitioned sees the signature of a boot sector, which a GPT has too.
func isPartitioned(r io.ReaderAt) bool {
	var b [2]byte
	_, err := r.ReadAt(b[:], 510)
	return err == nil && b == [2]byte{0x55, 0xaa}
}

// keepDisk returns the cache entry with a copy of the disk image in f.
func (c *Cache) keepDisk(ctx context.Context, f *os.File, kind, name string) (dir string, err error) {
	return c.stage(kind, func(dir string) (string, error) {
		h := sha256.New()
		if err := copySparse(filepath.Join(dir, name), io.TeeReader(contextReader{ctx, f}, h)); err != nil {
			return "", err
		}
		k := newKeyer(diskRecipe)
		k.add(h.Sum(nil))
		return k.key(), nil
	})
}

// copySparse writes r to a new file and leaves out what is zeros.
func copySparse(path string, r io.Reader) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(writeSparse(f, r), f.Sync(), f.Close())
}

func writeSparse(f *os.File, r io.Reader) error {
	zero, b := make([]byte, holePiece), make([]byte, copyBytes)
	for at := int64(0); ; {
		n, err := io.ReadFull(r, b)
		for piece := range slices.Chunk(b[:n], holePiece) {
			if !bytes.Equal(piece, zero[:len(piece)]) {
				if _, err := f.WriteAt(piece, at); err != nil {
					return err
				}
			}
			at += int64(len(piece))
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return f.Truncate(at)
		}
		if err != nil {
			return err
		}
	}
}

// CopyDisk makes a private copy of a disk image at dst, which must not exist.
// Holes stay holes.
func CopyDisk(dst, src string) error {
	in, err := os.Open(src)
	if err != nil {
		return fmt.Errorf("copy disk: %w", err)
	}
	defer func() { _ = in.Close() }()
	if err := copySparse(dst, in); err != nil {
		return fmt.Errorf("copy disk: %w", err)
	}
	return nil
}
