package ext4

import "encoding/binary"

var (
	le = binary.LittleEndian
	be = binary.BigEndian
)

// Feature sets: a kernel that does not know a feature may still use the file system
// (compatible), must not mount it (incompatible), or may only read it (readOnly).
const (
	compatible   = 0x4 | 0x8 | 0x10 | 0x20       // has_journal, ext_attr, resize_inode, dir_index
	incompatible = 0x2 | 0x40                    // filetype, extents
	readOnly     = 0x1 | 0x2 | 0x8 | 0x20 | 0x40 // sparse_super, large_file, huge_file, dir_nlink, extra_isize
)

// Modes of the inodes; inode(7).
const (
	modeDir     = 0o040755
	modePrivate = 0o040700
	modeFile    = 0o100600
)

// super is the super block, as its copy in a group has it.
func (l *layout) super(group int) []byte {
	b := make([]byte, superSize)
	free := 0
	for g := range l.groups {
		free += l.size(g) - l.used(g)
	}
	const logBlock = 2 // 1,024 << 2
	now := uint32(l.Time.Unix())
	for offset, v := range map[int]uint32{
		0x00: uint32(l.groups * inodesPerGroup), 0x04: uint32(l.blocks),
		0x0c: uint32(free), 0x10: uint32(l.groups*inodesPerGroup - usedInodes),
		0x18: logBlock, 0x1c: logBlock, 0x20: groupBlocks, 0x24: groupBlocks, 0x28: inodesPerGroup,
		0x30: now, 0x40: now, 0x108: now, // Written, checked, made.
		0x4c: 1, // Revision: with inodes of other sizes than 128.
		0x54: lostFoundInode, 0x5c: compatible, 0x60: incompatible, 0x64: readOnly,
		0xe0:  journalInode,
		0x100: 0x4 | 0x8, // Mounted with user_xattr and acl.
		0x160: 0x1,       // Names are hashed as signed bytes, as x86 has them.
	} {
		le.PutUint32(b[offset:], v)
	}
	for offset, v := range map[int]uint16{
		0x36: 0xffff, // No check after so many mounts.
		0x38: 0xef53, 0x3a: 1 /* clean */, 0x3c: 1 /* go on after errors */, 0x58: inodeSize, 0x5a: uint16(group),
		0xce:  uint16(l.reserved),
		0x15c: inodeSize - 128 - 96, 0x15e: inodeSize - 128 - 96, // Extra space of each inode, for times: 32 bytes.
	} {
		le.PutUint16(b[offset:], v)
	}
	copy(b[0x68:], l.UUID[:])
	copy(b[0x78:0x88], l.Label)
	copy(b[0xec:], l.UUID[:])
	b[0xfc] = 1 // half_md4
	// A copy of the journal's block list, in case its inode is lost.
	b[0xfd] = 1
	journal := l.inode(modeFile, 1, l.journalBlock(), l.journal)
	copy(b[0x10c:], journal[0x28:0x28+60])
	le.PutUint32(b[0x10c+16*4:], uint32(l.journal*blockSize))
	return b
}

// table returns the group descriptors.
func (l *layout) table() []byte {
	b := make([]byte, l.descriptors*blockSize)
	for g := range l.groups {
		d := b[g*descriptorSize:]
		start := l.start(g)
		le.PutUint32(d[0x0:], uint32(start))
		le.PutUint32(d[0x4:], uint32(start+1))
		le.PutUint32(d[0x8:], uint32(start+2))
		le.PutUint16(d[0xc:], uint16(l.size(g)-l.used(g)))
		inodes, dirs := inodesPerGroup, 0
		if g == 0 {
			inodes, dirs = inodes-usedInodes, 2
		}
		le.PutUint16(d[0xe:], uint16(inodes))
		le.PutUint16(d[0x10:], uint16(dirs))
	}
	return b
}

// bitmap returns a bitmap with the first used of size bits set. Bits after size stand
// for no block and are set too.
func bitmap(used, size int) []byte {
	b := make([]byte, blockSize)
	for i := range b {
		for bit := range 8 {
			if n := i*8 + bit; n < used || n >= size {
				b[i] |= 1 << bit
			}
		}
	}
	return b
}

func (l *layout) writeGroups(w *writer) {
	table := l.table()
	for g := range l.groups {
		if hasSuper(g) {
			at := int64(g) * groupBlocks * blockSize
			if g == 0 {
				at = superOffset
			}
			w.at(at, l.super(g))
			w.block(g*groupBlocks+1, table)
		}
		w.block(l.start(g), bitmap(l.used(g), l.size(g)))
		inodes := 0
		if g == 0 {
			inodes = usedInodes
		}
		w.block(l.start(g)+1, bitmap(inodes, inodesPerGroup))
	}
}

// inode returns an inode whose data is in consecutive blocks.
func (l *layout) inode(mode uint16, links, first, blocks int) []byte {
	b := make([]byte, inodeSize)
	le.PutUint16(b[0x0:], mode)
	le.PutUint32(b[0x4:], uint32(blocks*blockSize))
	now := uint32(l.Time.Unix())
	for _, offset := range []int{0x8, 0xc, 0x10, 0x90} { // Read, changed, modified, made.
		le.PutUint32(b[offset:], now)
	}
	le.PutUint16(b[0x1a:], uint16(links))
	le.PutUint32(b[0x1c:], uint32(blocks*blockSize/512))
	le.PutUint32(b[0x20:], 0x80000) // Its blocks are extents:
	le.PutUint16(b[0x28:], 0xf30a)
	le.PutUint16(b[0x2a:], 1) // One extent,
	le.PutUint16(b[0x2c:], 4) // of four that fit.
	le.PutUint16(b[0x38:], uint16(blocks))
	le.PutUint32(b[0x3c:], uint32(first))
	le.PutUint16(b[0x80:], inodeSize-128-96)
	return b
}

func (l *layout) writeFiles(w *writer) {
	put := func(number int, inode []byte) {
		w.at(int64(l.start(0)+2)*blockSize+int64(number-1)*inodeSize, inode)
	}
	put(rootInode, l.inode(modeDir, 3, l.rootBlock(), 1))
	put(journalInode, l.inode(modeFile, 1, l.journalBlock(), l.journal))
	put(resizeInode, l.reserve())
	l.writeReserve(w)
	put(lostFoundInode, l.inode(modePrivate, 2, l.lostFoundBlock(), 1))
	w.block(l.rootBlock(), directory(entry{".", rootInode}, entry{"..", rootInode}, entry{"lost+found", lostFoundInode}))
	w.block(l.lostFoundBlock(), directory(entry{".", lostFoundInode}, entry{"..", rootInode}))
	w.block(l.journalBlock(), l.journalSuper())
}

// backups returns the groups with copies of the super block, but for the first.
func (l *layout) backups() (all []int) {
	for g := 1; g < l.groups; g++ {
		if hasSuper(g) {
			all = append(all, g)
		}
	}
	return all
}

const (
	pointers = blockSize / 4 // Of an indirect block.
	direct   = 12            // Blocks that an inode points at itself.
	twice    = 13            // The place in an inode of its block of indirect blocks.
)

// reserve returns the inode that holds the blocks reserved for descriptors. It is as long
// as a file without extents can be by its block of indirect blocks.
func (l *layout) reserve() []byte {
	const longest = (pointers*pointers + pointers + direct) * blockSize
	b := make([]byte, inodeSize)
	le.PutUint16(b[0x0:], modeFile)
	le.PutUint32(b[0x4:], longest&0xffffffff)
	le.PutUint32(b[0x6c:], longest>>32)
	now := uint32(l.Time.Unix())
	for _, offset := range []int{0x8, 0xc, 0x10, 0x90} { // As of the others.
		le.PutUint32(b[offset:], now)
	}
	le.PutUint16(b[0x1a:], 1)
	le.PutUint32(b[0x1c:], uint32((1+l.reserved*(1+len(l.backups())))*blockSize/512))
	le.PutUint32(b[0x28+twice*4:], uint32(l.reserveBlock()))
	le.PutUint16(b[0x80:], inodeSize-128-96)
	return b
}

// writeReserve writes the blocks of that inode: a block that points at the reserved blocks
// of the first group, each at the place of its number among the descriptors' blocks. Each of
// those points at its copies in other groups. The kernel uses them when the file system grows.
func (l *layout) writeReserve(w *writer) {
	list := make([]byte, blockSize)
	for i := range l.reserved {
		number := 1 + l.descriptors + i
		le.PutUint32(list[(l.descriptors+i)*4:], uint32(number))
		copies := make([]byte, blockSize)
		for k, group := range l.backups() {
			le.PutUint32(copies[k*4:], uint32(group*groupBlocks+number))
		}
		if l.groups > 1 { // Without copies the block is zeros, as it is.
			w.block(number, copies)
		}
	}
	w.block(l.reserveBlock(), list)
}

type entry struct {
	name  string
	inode int
}

// directory returns a directory block whose entries are all directories.
func directory(entries ...entry) []byte {
	b := make([]byte, blockSize)
	at := 0
	for i, e := range entries {
		length := (8 + len(e.name) + 3) &^ 3
		if i == len(entries)-1 {
			length = blockSize - at // The last one has the rest.
		}
		le.PutUint32(b[at:], uint32(e.inode))
		le.PutUint16(b[at+4:], uint16(length))
		b[at+6], b[at+7] = byte(len(e.name)), 2
		copy(b[at+8:], e.name)
		at += length
	}
	return b
}

// journalSuper returns the first block of an empty journal.
func (l *layout) journalSuper() []byte {
	b := make([]byte, blockSize)
	for offset, v := range map[int]uint32{
		0x0: 0xc03b3998, 0x4: 4, // A super block of version 2.
		0xc: blockSize, 0x10: uint32(l.journal), 0x14: 1, 0x18: 1, // Its log begins at block 1 with transaction 1.
		0x40: 1, // One user.
	} {
		be.PutUint32(b[offset:], v)
	}
	copy(b[0x30:], l.UUID[:])
	return b
}
