package ext4

import (
	"errors"
	"fmt"
	"io"
	"time"
)

const (
	blockSize      = 4096
	groupBlocks    = 8 * blockSize   // As many as a bitmap of one block has bits.
	inodesPerGroup = groupBlocks / 4 // One for each 16 KiB, as mke2fs has it.
	inodeSize      = 256             // Leaves room for small attributes such as overlayfs's.
	tableBlocks    = inodesPerGroup * inodeSize / blockSize
	descriptorSize = 32
	superOffset    = 1024
	superSize      = 1024

	// MinSize is the smallest disk; journal and inodes take half of it.
	MinSize = 16 << 20
	// MaxSize is the largest disk; its bitmaps take 64 MiB of real data.
	MaxSize = 1 << 40
)

// Numbers of inodes.
const (
	rootInode      = 2
	resizeInode    = 7
	journalInode   = 8
	lostFoundInode = 11 // The first that is not reserved.
	usedInodes     = 11
)

// ErrSize says that a size is out of bounds.
var ErrSize = errors.New("want 16 MiB to 1 TiB")

// A File receives a file system. It must be empty and read as zeros.
type File interface {
	io.WriterAt
	Truncate(size int64) error
}

// Options identify a file system.
type Options struct {
	UUID  [16]byte // Also the seed of the hash for names in directories.
	Label string   // At most 16 bytes.
	Time  time.Time
}

// Format makes an empty file system of the given size in f. The size is rounded
// down to whole blocks, and a last group too small to be of use is left out.
func Format(f File, size int64, o Options) error {
	if size < MinSize || size > MaxSize {
		return fmt.Errorf("ext4 of %d bytes: %w", size, ErrSize)
	}
	l := newLayout(size, o)
	w := &writer{f: f}
	l.writeGroups(w)
	l.writeFiles(w)
	if w.err == nil {
		w.err = f.Truncate(size)
	}
	if w.err != nil {
		return fmt.Errorf("make ext4: %w", w.err)
	}
	return nil
}

// A writer keeps the first error.
type writer struct {
	f   io.WriterAt
	err error
}

func (w *writer) at(offset int64, b []byte) {
	if w.err == nil {
		_, w.err = w.f.WriteAt(b, offset)
	}
}

func (w *writer) block(n int, b []byte) { w.at(int64(n)*blockSize, b) }

// A layout says where everything is.
type layout struct {
	Options
	blocks      int // Of the file system.
	groups      int
	descriptors int // Blocks of group descriptors, in each copy.
	reserved    int // Blocks after them in each copy, for the descriptors of later groups.
	journal     int // Blocks of the journal.
}

func newLayout(size int64, o Options) *layout {
	l := &layout{Options: o, blocks: int(size / blockSize)}
	l.count()
	// Leave out a last group that has no room for its metadata and a few files.
	const some = 64
	if last := l.blocks % groupBlocks; last > 0 && last < l.overhead(l.groups-1)+some && l.groups > 1 {
		l.blocks -= last
		l.count()
	}
	l.journal = journalBlocks(l.blocks)
	return l
}

func (l *layout) count() {
	l.groups = (l.blocks + groupBlocks - 1) / groupBlocks
	l.descriptors = descriptorBlocks(l.groups)
	l.reserved = descriptorBlocks(MaxSize/blockSize/groupBlocks) - l.descriptors
}

func descriptorBlocks(groups int) int { return (groups*descriptorSize + blockSize - 1) / blockSize }

// journalBlocks is a 16th of the file system, at least the kernel's minimum (1,024
// blocks) and at most 64 MiB, which hold a hundred transactions.
func journalBlocks(blocks int) int { return min(max(blocks/16, 1024), 16<<10) }

// hasSuper reports whether a group has copies of super block and descriptors.
func hasSuper(group int) bool {
	if group <= 1 {
		return true
	}
	for _, base := range []int{3, 5, 7} {
		n := base
		for n < group {
			n *= base
		}
		if n == group {
			return true
		}
	}
	return false
}

// start returns the group's first block after those copies: its block bitmap.
func (l *layout) start(group int) int {
	start := group * groupBlocks
	if hasSuper(group) {
		start += 1 + l.descriptors + l.reserved
	}
	return start
}

// overhead returns the number of metadata blocks of a group.
func (l *layout) overhead(group int) int {
	return l.start(group) - group*groupBlocks + 2 + tableBlocks
}

// size returns the number of blocks of a group.
func (l *layout) size(group int) int { return min(groupBlocks, l.blocks-group*groupBlocks) }

// used returns the number of used blocks of a group.
func (l *layout) used(group int) int {
	used := l.overhead(group)
	if group == 0 {
		used += 3 + l.journal
	}
	return used
}

// The data of group 0.
func (l *layout) rootBlock() int      { return l.overhead(0) }
func (l *layout) lostFoundBlock() int { return l.rootBlock() + 1 }
func (l *layout) reserveBlock() int   { return l.rootBlock() + 2 }
func (l *layout) journalBlock() int   { return l.rootBlock() + 3 }
