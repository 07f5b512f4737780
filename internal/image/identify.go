package image

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxImage bounds a kernel image in memory. Compressed ones are below 20 MiB, a
// vmlinux without debugging data below 100 MiB.
const maxImage = 256 << 20

// ErrUnknownFormat says that a file is no kernel in any form that this package reads.
var ErrUnknownFormat = errors.New("neither a libkrunfw library, a Debian package, a bzImage, an arm64 Image nor an x86-64 ELF kernel")

// The consoles that may be built into a kernel: a virtio console or a serial port.
const (
	consoleVirtio = "hvc0"
	consoleSerial = "ttyS0"
	consolePL011  = "ttyAMA0"
)

// The architectures of kernels, by Go's names.
const (
	archAMD64 = "amd64"
	archARM64 = "arm64"
)

// A form is the form of a kernel file, found by its content.
type form int

const (
	formUnknown form = iota
	formDeb
	formBzImage
	formELF
	formKrunfw
	formImage      // For arm64.
	formCompressed // Such a kernel, compressed.
	formZboot      // Such a kernel in a program for EFI that decompresses it.
)

// identify returns the form of r. It tells ELF files apart by their dynamic symbols.
func identify(r io.ReaderAt) (form, error) {
	head, err := readBounded(io.NewSectionReader(r, 0, bzHeaderEnd), bzHeaderEnd)
	switch {
	case err != nil:
		return formUnknown, err
	case bytes.HasPrefix(head, []byte(arMagic)):
		return formDeb, nil
	case isBzImage(head):
		return formBzImage, nil
	case bytes.HasPrefix(head, []byte(elf.ELFMAG)):
		return identifyELF(r)
	case isZboot(head):
		return formZboot, nil
	case isARM64Image(head):
		return formImage, nil
	case hasCompressedMagic(head):
		return formCompressed, nil
	}
	return formUnknown, ErrUnknownFormat
}

func identifyELF(r io.ReaderAt) (form, error) {
	f, err := elf.NewFile(r)
	if err != nil {
		return formUnknown, err
	}
	if f.Type == elf.ET_DYN {
		return formKrunfw, nil
	}
	if f.Type != elf.ET_EXEC || f.Machine != elf.EM_X86_64 {
		return formUnknown, ErrUnknownFormat
	}
	return formELF, nil
}

// Offsets in the header of a bzImage: Documentation/arch/x86/boot.rst.
const (
	bzSignature = 0x1fe // 0xaa55
	bzMagic     = 0x202 // "HdrS"
	bzVersion   = 0x20e // u16: place of the version string, less 0x200
	bzHeaderEnd = 0x210
	// The version string is in the setup code, before offset 0x10200. It starts with
	// uname's fields, which take less than 128 bytes.
	bzVersionBytes = 128
)

func isBzImage(head []byte) bool {
	return len(head) >= bzHeaderEnd &&
		head[bzSignature] == 0x55 && head[bzSignature+1] == 0xaa &&
		string(head[bzMagic:bzMagic+4]) == "HdrS"
}

// bzImageRelease reads the release from the header: the first word of a string
// like "6.1.0-56-cloud-amd64 (builder) #1 SMP".
func bzImageRelease(r io.ReaderAt) (string, error) {
	var at [2]byte
	if _, err := r.ReadAt(at[:], bzVersion); err != nil {
		return "", err
	}
	offset := int64(binary.LittleEndian.Uint16(at[:])) + 0x200
	b, err := readBounded(io.NewSectionReader(r, offset, bzVersionBytes), bzVersionBytes)
	if err != nil {
		return "", err
	}
	return release(b)
}

// memoryRelease finds the release in an uncompressed kernel.
func memoryRelease(memory []byte) (string, error) {
	_, rest, ok := bytes.Cut(memory, []byte("Linux version "))
	if !ok {
		return "", errors.New("no Linux version in it: not a kernel, or a compressed one")
	}
	return release(rest[:min(len(rest), bzVersionBytes)])
}

// release returns the first word of b. It becomes part of file names, so release allows
// only the characters of a kernel's release.
func release(b []byte) (string, error) {
	end := bytes.IndexAny(b, " \x00\n")
	if end <= 0 || !isRelease(string(b[:end])) {
		return "", fmt.Errorf("kernel release %q: not one", b[:min(len(b), 64)])
	}
	return string(b[:end]), nil
}

func isRelease(s string) bool {
	if s == "" || len(s) > 64 || s[0] < '0' || s[0] > '9' { // 64: utsname
		return false
	}
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_+~") == "" && !strings.Contains(s, "..")
}

// traits finds out from a kernel's memory which console it has and whether it takes an
// initramfs. It looks for the name of the board's serial driver and for a message of the
// initramfs loader, which a kernel without these features lacks.
func traits(memory []byte) (console string, initrd bool) {
	console = consoleVirtio
	switch {
	case isARM64Image(memory) && bytes.Contains(memory, []byte("uart-pl011")):
		console = consolePL011
	case !isARM64Image(memory) && bytes.Contains(memory, []byte("serial8250")):
		console = consoleSerial
	}
	return console, bytes.Contains(memory, []byte("Trying to unpack rootfs"))
}

// pvhProgram checks that an ELF kernel has a PVH note where QEMU looks for it.
func pvhProgram(f *elf.File) error {
	for _, p := range f.Progs {
		if p.Type != elf.PT_NOTE {
			continue
		}
		// Notes of a kernel take a few hundred bytes.
		b, err := readBounded(p.Open(), 1<<20)
		if err != nil {
			return fmt.Errorf("notes: %w", err)
		}
		if bytes.Contains(b, noteHead(8)) || bytes.Contains(b, noteHead(4)) {
			return nil
		}
	}
	return ErrNoPVH
}
