package plan

import (
	"encoding/binary"
	"errors"
)

// An Ext4 has the fields of a superblock on which the growth of the file system depends
// (Documentation/filesystems/ext4/super.rst).
type Ext4 struct {
	BlockSize      uint64 // Bytes.
	Blocks         uint64 // The whole file system.
	BlocksPerGroup uint64
	FirstBlock     uint64 // 0 with blocks of 4 KiB.
	InodeTable     uint64 // Blocks of one group's inodes.
	DescriptorSize uint64 // Bytes for each group.
	ReservedGDT    uint64 // Blocks kept for more descriptors.
	ResizeInode    bool
	MetaBG         bool
	SparseSuper    bool
}

// Ext4SuperAt and Ext4SuperSize say where the superblock is on a disk.
const (
	Ext4SuperAt   = 1024
	Ext4SuperSize = 1024
)

// ErrNoExt4 is a superblock of another file system.
var ErrNoExt4 = errors.New("online growth requires a supported 4 KiB ext4 root")

// The reasons why growth is refused, in the reference agents' words.
var (
	errSize       = errors.New("root growth requires a nondecreasing size aligned to 4 KiB")
	errNoReserve  = errors.New("root ext4 lacks supported resize-inode metadata; offline preparation is required")
	errReserve    = errors.New("target exceeds ext4 reserved group-descriptor capacity")
	errSmallGroup = errors.New("target leaves a final block group too small for ext4 metadata")
)

// growthBlock is the block size of file systems that can grow.
const growthBlock = 4096

// DecodeExt4 reads a superblock.
func DecodeExt4(b []byte) (Ext4, error) {
	const (
		magic                               = 0xEF53
		compatResizeInode, incompatMetaBG   = 0x10, 0x10
		incompat64Bit, roCompatSparseSuper  = 0x80, 0x1
		smallDescriptor, smallestBlock      = 32, 1024
		maxLogBlock                         = 6   // 64 KiB.
		leastGroup                          = 256 // Blocks, as mke2fs has it.
		atBlocks, atFirst, atLog, atPer     = 0x4, 0x14, 0x18, 0x20
		atInodesPer, atMagic, atInodeSize   = 0x28, 0x38, 0x58
		atCompat, atIncompat, atROCompat    = 0x5C, 0x60, 0x64
		atReserved, atDescriptor, atBlocksH = 0xCE, 0xFE, 0x150
	)
	if len(b) < Ext4SuperSize || binary.LittleEndian.Uint16(b[atMagic:]) != magic {
		return Ext4{}, ErrNoExt4
	}
	long := func(at int) uint64 { return uint64(binary.LittleEndian.Uint32(b[at:])) }
	short := func(at int) uint64 { return uint64(binary.LittleEndian.Uint16(b[at:])) }
	e := Ext4{
		Blocks: long(atBlocks), FirstBlock: long(atFirst), BlocksPerGroup: long(atPer),
		ReservedGDT: short(atReserved), DescriptorSize: smallDescriptor,
		ResizeInode: long(atCompat)&compatResizeInode != 0, MetaBG: long(atIncompat)&incompatMetaBG != 0,
		SparseSuper: long(atROCompat)&roCompatSparseSuper != 0,
	}
	if long(atLog) > maxLogBlock || e.BlocksPerGroup < leastGroup || short(atDescriptor) > growthBlock {
		return Ext4{}, ErrNoExt4
	}
	e.BlockSize = smallestBlock << long(atLog)
	if long(atIncompat)&incompat64Bit != 0 {
		e.Blocks |= long(atBlocksH) << 32
		e.DescriptorSize = max(short(atDescriptor), smallDescriptor)
	}
	e.InodeTable = divideUp(long(atInodesPer)*short(atInodeSize), e.BlockSize)
	return e, nil
}

func divideUp(n, by uint64) uint64 { return (n + by - 1) / by }

// Bytes is the size of the file system.
func (e Ext4) Bytes() uint64 { return e.Blocks * e.BlockSize }

// Grow returns the number of blocks that the file system has when it is size bytes
// long, or the reason why it cannot grow to that size while it is mounted.
func (e Ext4) Grow(size uint64) (blocks uint64, err error) {
	blocks = size / growthBlock
	switch {
	case e.BlockSize != growthBlock || e.FirstBlock != 0:
		return 0, ErrNoExt4
	case size%growthBlock != 0 || blocks < e.Blocks:
		return 0, errSize
	case !e.ResizeInode || e.MetaBG:
		return 0, errNoReserve
	case e.descriptorBlocks(blocks) > e.descriptorBlocks(e.Blocks)+e.ReservedGDT:
		return 0, errReserve
	case blocks > e.Blocks && e.smallEnd(blocks):
		return 0, errSmallGroup
	}
	return blocks, nil
}

func (e Ext4) groups(blocks uint64) uint64 { return divideUp(blocks-e.FirstBlock, e.BlocksPerGroup) }

func (e Ext4) descriptorBlocks(blocks uint64) uint64 {
	return divideUp(e.groups(blocks)*e.DescriptorSize, e.BlockSize)
}

// smallEnd reports whether the last group is too small for its own metadata: two
// bitmaps, its inodes, and, in some groups, a copy of the superblock and descriptors.
func (e Ext4) smallEnd(blocks uint64) bool {
	last := e.groups(blocks) - 1
	if last < e.groups(e.Blocks) {
		return false // The group is there already.
	}
	const bitmaps = 2
	needs := bitmaps + e.InodeTable
	if !e.SparseSuper || hasCopy(last) {
		needs += 1 + e.descriptorBlocks(e.Blocks) + e.ReservedGDT
	}
	return blocks-e.FirstBlock-last*e.BlocksPerGroup <= needs
}

// hasCopy reports whether a group has a copy of the superblock: 0, 1 and powers of 3, 5, 7.
func hasCopy(group uint64) bool {
	for _, base := range []uint64{3, 5, 7} {
		power := uint64(1)
		for power < group {
			power *= base
		}
		if power == group {
			return true
		}
	}
	return group <= 1
}
