package image

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Offsets in the header of an arm64 Image: Documentation/arch/arm64/booting.rst.
const (
	armFlags     = 24 // u64: byte order and page size
	armMagic     = 56 // "ARM\x64"
	armHeaderEnd = 64
)

// Offsets in the header of a program for EFI that decompresses the kernel in it:
// drivers/firmware/efi/libstub/zboot-header.S.
const (
	zbootMagic     = 4  // "zimg"
	zbootOffset    = 8  // u32: place of the compressed kernel
	zbootSize      = 12 // u32: its length
	zbootHeaderEnd = 16
)

func isARM64Image(head []byte) bool {
	return len(head) >= armHeaderEnd && string(head[armMagic:armHeaderEnd-4]) == "ARM\x64"
}

func isZboot(head []byte) bool {
	return len(head) >= zbootHeaderEnd && string(head[:2]) == "MZ" && string(head[zbootMagic:zbootOffset]) == "zimg"
}

// pageSizes are the sizes of a kernel's pages, in bytes, by bits 1 and 2 of the flags.
// 0 means that the kernel does not say it.
var pageSizes = [...]int{0, 4 << 10, 16 << 10, 64 << 10}

// describeImage also returns the content of the file, which it reads whole anyway.
func describeImage(r io.ReaderAt) (record, []byte, error) {
	b, err := readBounded(io.NewSectionReader(r, 0, maxImage+1), maxImage)
	if err != nil {
		return record{}, nil, err
	}
	rec, err := describeARM64(b)
	return rec, b, err
}

// describeARM64 describes an Image, which is also the memory of the kernel.
func describeARM64(b []byte) (record, error) {
	if !isARM64Image(b) {
		return record{}, ErrUnknownFormat
	}
	flags := binary.LittleEndian.Uint64(b[armFlags:])
	if flags&1 != 0 {
		return record{}, errors.New("an arm64 kernel for the other byte order (big-endian)")
	}
	rel, err := memoryRelease(b)
	console, initrd := traits(b)
	return record{
		Name: rel, File: "Image", Release: rel, Console: console, Initrd: initrd,
		Architecture: archARM64, PageSize: pageSizes[flags>>1&3],
	}, err
}

// unwrap returns the kernel inside a compressed file, or inside a program for EFI that
// decompresses it, with the form of what is inside.
func unwrap(kind form, r readerAt) (form, readerAt, error) {
	if kind != formCompressed && kind != formZboot {
		return kind, r, nil
	}
	var packed io.Reader = r
	if kind == formZboot {
		var err error
		if packed, err = zbootPayload(r); err != nil {
			return formUnknown, nil, err
		}
	}
	b, err := decompressAll(packed, maxImage)
	if err != nil {
		return formUnknown, nil, fmt.Errorf("compressed kernel: %w", err)
	}
	inside := bytes.NewReader(b)
	if kind, err = identify(inside); err != nil {
		return formUnknown, nil, err
	}
	if kind != formBzImage && kind != formELF && kind != formImage {
		return formUnknown, nil, ErrUnknownFormat
	}
	return kind, inside, nil
}

func zbootPayload(r io.ReaderAt) (io.Reader, error) {
	var head [zbootHeaderEnd]byte
	if _, err := r.ReadAt(head[:], 0); err != nil {
		return nil, err
	}
	offset, size := binary.LittleEndian.Uint32(head[zbootOffset:]), binary.LittleEndian.Uint32(head[zbootSize:])
	return io.NewSectionReader(r, int64(offset), int64(size)), nil
}

// placementARM64 reads the load address, the entry address and the size from the code
// that returns them: three times a number in a register (movz, movk), stored through a
// pointer in another one (str xT, [xN]).
func placementARM64(code []byte) (load, entry, size uint64, err error) {
	const stackPointer = 31
	var registers [32]uint64
	var found []uint64
	for ; len(code) >= 4; code = code[4:] {
		word := binary.LittleEndian.Uint32(code)
		target, shift, value := word&31, (word>>21&3)*16, uint64(word>>5&0xffff)
		switch {
		case word&0xff800000 == 0xd2800000: // movz
			registers[target] = value << shift
		case word&0xff800000 == 0xf2800000: // movk
			registers[target] = registers[target]&^(0xffff<<shift) | value<<shift
		case word&0xfffffc00 == 0xf9000000 && word>>5&31 != stackPointer: // str xT, [xN]
			found = append(found, registers[target])
		}
	}
	if len(found) != 3 {
		return 0, 0, 0, fmt.Errorf("%s: its code is not the three known assignments", getterSymbol)
	}
	return found[0], found[1], found[2], nil
}

// libraries are the machines of libkrunfw libraries.
var libraries = map[elf.Machine]struct {
	architecture string
	placement    func(code []byte) (load, entry, size uint64, err error)
}{
	elf.EM_X86_64:  {archAMD64, placement},
	elf.EM_AARCH64: {archARM64, placementARM64},
}
