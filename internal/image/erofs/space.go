package erofs

import (
	"bytes"
	"fmt"
	"io"
	"math"
)

const (
	// runBlocks is the length of a run of metadata: the inodes of some hundred files. A
	// guest that lists a directory reads them at once.
	runBlocks = 64
	// dataBuffer is the largest write of data; larger writes are no faster.
	dataBuffer = 1 << 20
	// holeSize is the least length of zeros that become a hole in the image's file.
	holeSize = 32 << 10
)

// A File receives an image. Parts that were never written must read as zeros.
type File interface {
	io.WriterAt
	Truncate(size int64) error
}

// A space hands out the blocks of an image, each once and in order, and writes
// them. After an error nothing more is written.
type space struct {
	file File
	err  error
	next int64 // The first free block.

	data   []byte // Buffered data for offset dataAt; whole blocks between calls.
	dataAt int64  // Offset.

	run     []byte // The current run of metadata, for offset runAt.
	runAt   int64
	runUsed int
}

func newSpace(f File) *space {
	return &space{file: f, next: 1, runAt: blockSize, data: make([]byte, 0, dataBuffer)}
}

func (s *space) write(b []byte, at int64) {
	if s.err == nil && len(b) > 0 {
		_, s.err = s.file.WriteAt(b, at)
	}
}

// take allocates blocks.
func (s *space) take(blocks int64) (first int64) {
	first = s.next
	s.next += blocks
	if s.next > math.MaxUint32 && s.err == nil {
		s.err = fmt.Errorf("%w: an image has at most 16 TiB", errLimit)
	}
	return first
}

// readBlocks writes size bytes of r to whole blocks, pads the last one with zeros, and
// returns the first block.
func (s *space) readBlocks(r io.Reader, size int64) (first int64, err error) {
	blocks := (size + blockSize - 1) / blockSize
	if len(s.data) == 0 || s.dataAt+int64(len(s.data)) != s.next*blockSize {
		s.flushData()
		s.dataAt = s.next * blockSize
	}
	first = s.take(blocks)
	for left := size; left > 0 && err == nil; {
		if len(s.data) == cap(s.data) {
			s.flushData()
		}
		free := s.data[len(s.data):cap(s.data)]
		var n int
		n, err = io.ReadFull(r, free[:min(int64(len(free)), left)])
		s.data = s.data[:len(s.data)+n]
		left -= int64(n)
	}
	if rest := len(s.data) % blockSize; rest > 0 {
		s.data = append(s.data, zeros[:blockSize-rest]...)
	}
	if err != nil {
		return 0, err
	}
	return first, s.err
}

var zeros [holeSize]byte

// flushData writes the buffered data without its long zeros.
func (s *space) flushData() {
	rest := s.data
	for len(rest) > 0 {
		skip := 0
		for skip < len(rest) && isZero(rest[skip:min(len(rest), skip+holeSize)]) {
			skip = min(len(rest), skip+holeSize)
		}
		rest, s.dataAt = rest[skip:], s.dataAt+int64(skip)
		n := 0
		for n < len(rest) && !isZero(rest[n:min(len(rest), n+holeSize)]) {
			n = min(len(rest), n+holeSize)
		}
		s.write(rest[:n], s.dataAt)
		rest, s.dataAt = rest[n:], s.dataAt+int64(n)
	}
	s.data = s.data[:0]
}

func isZero(b []byte) bool { return bytes.Equal(b, zeros[:len(b)]) }

// reserve allocates n bytes of metadata at a slot. They do not cross a block boundary
// if they fit into one block: an inode and its inline data must not.
func (s *space) reserve(n int) (at int64) {
	s.runUsed = roundUp(s.runUsed, slotSize)
	if left := blockSize - s.runUsed%blockSize; n > left && (n <= blockSize || left < inodeSize) {
		s.runUsed = roundUp(s.runUsed, blockSize)
	}
	if s.runUsed+n > len(s.run) {
		s.newRun(n)
	}
	at = s.runAt + int64(s.runUsed)
	s.runUsed += n
	return at
}

func (s *space) newRun(n int) {
	s.write(s.run, s.runAt)
	blocks := max(runBlocks, (n+blockSize-1)/blockSize)
	s.flushData()
	s.runAt = s.take(int64(blocks)) * blockSize
	s.run, s.runUsed = make([]byte, blocks*blockSize), 0
}

// put writes reserved metadata, in the current run or an earlier one.
func (s *space) put(b []byte, at int64) {
	if at >= s.runAt && at+int64(len(b)) <= s.runAt+int64(len(s.run)) {
		copy(s.run[at-s.runAt:], b)
		return
	}
	s.write(b, at)
}

// close writes the buffers and returns the size of the image in blocks.
func (s *space) close() (blocks int64, err error) {
	s.flushData()
	if s.runAt+int64(len(s.run)) == s.next*blockSize { // The unused end of the last run is cut off.
		s.run = s.run[:roundUp(s.runUsed, blockSize)]
		s.next = (s.runAt + int64(len(s.run))) / blockSize
	}
	s.write(s.run, s.runAt)
	if s.err == nil {
		s.err = s.file.Truncate(s.next * blockSize)
	}
	return s.next, s.err
}

func roundUp(n, to int) int { return (n + to - 1) / to * to }
