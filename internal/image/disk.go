package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"
	"os"
	"path/filepath"
	"slices"
)

const (
	diskKind   = "disks"
	diskFile   = "disk"
	diskRecipe = "disk 1"
	// copyBytes is how much of a disk is read at once. holePiece is the piece that is
	// not written if it is all zeros.
	copyBytes = 1 << 20
	holePiece = 64 << 10
)

// File systems that an image may have, by the kernel's names.
const (
	fsErofs = "erofs"
	fsExt4  = "ext4"
	fsXFS   = "xfs"
	fsBtrfs = "btrfs"
)

// superBytes is how much of a super block is read.
const superBytes = 512

// superOffsets are the offsets of super blocks in bytes.
var superOffsets = map[string]int64{fsErofs: 1024, fsExt4: 1024, fsXFS: 0, fsBtrfs: 64 << 10}

// signatures identify a file system by its first bytes, as the guest does (boot section
// 14). Their order does not matter.
var signatures = []struct {
	fstype string
	offset int64
	magic  string
}{
	{fsErofs, 1024, "\xe2\xe1\xf5\xe0"},
	{fsExt4, 1080, "\x53\xef"},
	{fsXFS, 0, "XFSB"},
	{fsBtrfs, 65600, "_BHRfS_M"},
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

// isPartitioned looks for the signature of a boot sector, which a GPT has too.
func isPartitioned(r io.ReaderAt) bool {
	var b [2]byte
	_, err := r.ReadAt(b[:], 510)
	return err == nil && b == [2]byte{0x55, 0xaa}
}

// errCut says that a disk image is shorter than its file system.
var errCut = errors.New("cut short")

// checkWhole refuses a disk image of size bytes that is shorter than its super block
// says. A longer file is accepted: a file system need not fill its disk.
func checkWhole(r io.ReaderAt, fstype string, size int64) error {
	claimed, err := claimedSize(r, fstype)
	if err != nil {
		return fmt.Errorf("super block of the %s on it: %w", fstype, err)
	}
	if claimed > uint64(size) {
		return fmt.Errorf("%w: the %s on it has %d bytes, the file %d", errCut, fstype, claimed, size)
	}
	return nil
}

// claimedSize reads the size of a file system in bytes from its super block. The
// offsets are those of struct ext4_super_block, erofs_super_block, xfs_dsb and
// btrfs_super_block (its dev_item) in the kernel's headers.
func claimedSize(r io.ReaderAt, fstype string) (uint64, error) {
	b := make([]byte, superBytes)
	if _, err := r.ReadAt(b, superOffsets[fstype]); err != nil {
		return 0, unended(err)
	}
	le, be := binary.LittleEndian, binary.BigEndian
	switch fstype {
	case fsExt4:
		const has64bit = 0x80
		blocks := uint64(le.Uint32(b[4:]))
		if le.Uint32(b[96:])&has64bit != 0 {
			blocks |= uint64(le.Uint32(b[336:])) << 32
		}
		return scaled(blocks, uint64(le.Uint32(b[24:]))+10)
	case fsErofs:
		return scaled(uint64(le.Uint32(b[36:])), uint64(b[12]))
	case fsXFS:
		size := be.Uint32(b[4:])
		return scaled(be.Uint64(b[8:]), uint64(bits.Len32(size)-1))
	}
	return le.Uint64(b[209:]), nil
}

// scaled returns blocks of 1<<shift bytes in bytes.
func scaled(blocks, shift uint64) (uint64, error) {
	const largest = 16 // 64 KiB, the largest block of these file systems.
	if shift > largest || blocks > math.MaxInt64>>largest {
		return 0, fmt.Errorf("%d blocks of 1<<%d bytes: not a size", blocks, shift)
	}
	return blocks << shift, nil
}

// keepDisk returns the cache entry with a copy of the disk image in f.
func (c *Cache) keepDisk(ctx context.Context, f *os.File, fstype, kind, name string) (dir string, err error) {
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	if err := checkWhole(f, fstype, info.Size()); err != nil {
		return "", err
	}
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

// copySparse writes r to a new file and leaves holes in place of zeros.
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
		n, err := readFull(r, b)
		for piece := range slices.Chunk(b[:n], holePiece) {
			if !bytes.Equal(piece, zero[:len(piece)]) {
				if _, err := f.WriteAt(piece, at); err != nil {
					return err
				}
			}
			at += int64(len(piece))
		}
		if err == io.EOF { //nolint:errorlint // A reader's end is not wrapped.
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
