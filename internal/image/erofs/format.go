package erofs

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
)

const (
	blockBits = 12 // 4,096 bytes, the only size that kernels before 6.3 mount on x86-64.
	blockSize = 1 << blockBits

	superOffset = 1024
	superSize   = 128
	superMagic  = 0xe0f5e1e2

	// A node number (nid) counts slots of 32 bytes from the start of the image, because
	// the super block says that metadata begins at block 0. The root's nid has 16 bits,
	// so its inode must be in the first 2 MiB; it follows the super block.
	slotSize   = 32
	rootOffset = superOffset + superSize

	inodeSize = 64 // The extended form; only this one has a time and 32-bit owners.

	featureChecksum = 1 << 0 // The super block has a checksum.
	featureMtime    = 1 << 1 // Times are modification times (mtime), not change times.
)

// The file types of an inode's mode; inode(7).
const (
	typeMask    = 0o170000
	typeSocket  = 0o140000
	typeSymlink = 0o120000
	typeRegular = 0o100000
	typeBlock   = 0o060000
	typeDir     = 0o040000
	typeChar    = 0o020000
	typeFifo    = 0o010000
)

// Data layouts of an inode.
const (
	flatPlain  = 0 // All data is in blocks.
	flatInline = 2 // The last, partial block stands after the inode.
)

var le = binary.LittleEndian

// A super holds the fields of the super block.
type super struct {
	inodes      uint64
	blocks      uint32
	xattrBlock  uint32 // The first block of the area of shared attributes.
	uuid        [16]byte
	volume      [16]byte
	rootNode    uint16
	newestMtime int64
}

// encode writes the super block into the image's first block, which must be complete
// otherwise, because encode adds the checksum.
func (s super) encode(block []byte) {
	b := block[superOffset : superOffset+superSize]
	clear(b)
	le.PutUint32(b[0:], superMagic)
	le.PutUint32(b[8:], featureChecksum|featureMtime)
	b[12] = blockBits
	le.PutUint16(b[14:], s.rootNode)
	le.PutUint64(b[16:], s.inodes)
	le.PutUint64(b[24:], uint64(s.newestMtime))
	le.PutUint32(b[36:], s.blocks)
	le.PutUint32(b[44:], s.xattrBlock)
	copy(b[48:], s.uuid[:])
	copy(b[64:], s.volume[:])
	sign(block)
}

// An inode holds the fields of an extended inode.
type inode struct {
	layout     uint16
	xattrUnits uint16 // 0, or 1 for the header and 1 for each 4 bytes after it.
	mode       uint16
	size       uint64
	data       uint32 // The first block of the data, or the number of a device.
	number     uint32 // The 32-bit inode number for stat.
	uid, gid   uint32
	mtime      int64
	nanosecond uint32
	links      uint32
}

// linksOffset is the offset of the link count in an inode.
const linksOffset = 44

func (i inode) encode(b []byte) {
	const extended = 1
	le.PutUint16(b[0:], extended|i.layout<<1)
	le.PutUint16(b[2:], i.xattrUnits)
	le.PutUint16(b[4:], i.mode)
	le.PutUint64(b[8:], i.size)
	le.PutUint32(b[16:], i.data)
	le.PutUint32(b[20:], i.number)
	le.PutUint32(b[24:], i.uid)
	le.PutUint32(b[28:], i.gid)
	le.PutUint64(b[32:], uint64(i.mtime))
	le.PutUint32(b[40:], i.nanosecond)
	le.PutUint32(b[linksOffset:], i.links)
}

// device is the kernel's 32-bit form of a device number.
func device(major, minor uint32) uint32 {
	return minor&0xff | major<<8 | minor&^0xff<<12
}

const (
	maxMajor = 1<<12 - 1
	maxMinor = 1<<20 - 1
)

// direntSize is the size of an entry of a directory without its name.
const direntSize = 12

// fileType is the type of an entry of a directory.
func fileType(mode uint16) byte {
	switch mode & typeMask {
	case typeRegular:
		return 1
	case typeDir:
		return 2
	case typeChar:
		return 3
	case typeBlock:
		return 4
	case typeFifo:
		return 5
	case typeSocket:
		return 6
	case typeSymlink:
		return 7
	}
	return 0
}

// SetUUID changes the UUID of a finished image. The caller can thus derive the UUID
// from the image's content.
func SetUUID(f interface {
	io.ReaderAt
	io.WriterAt
}, uuid [16]byte,
) error {
	block := make([]byte, blockSize)
	if _, err := f.ReadAt(block, 0); err != nil {
		return fmt.Errorf("read the super block: %w", err)
	}
	copy(block[superOffset+48:], uuid[:])
	sign(block)
	if _, err := f.WriteAt(block, 0); err != nil {
		return fmt.Errorf("write the super block: %w", err)
	}
	return nil
}

// sign writes the checksum into the super block. It covers the first block from
// superOffset on, with zeros in the checksum's field. The kernel's crc32c has no final
// complement.
func sign(block []byte) {
	sum := block[superOffset+4 : superOffset+8]
	clear(sum)
	le.PutUint32(sum, ^crc32.Checksum(block[superOffset:blockSize], crc32.MakeTable(crc32.Castagnoli)))
}
