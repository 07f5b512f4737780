package image

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

const (
	bundleSymbol = "KERNEL_BUNDLE"
	getterSymbol = "krunfw_get_kernel"
	// The function that returns the kernel's address is 58 or 62 bytes long. A much
	// larger function cannot be the three assignments that we look for.
	getterBytes = 1 << 10
	// Offset of the kernel's pages in the ELF file that we write: the second page, so
	// that they are page aligned.
	wrapOffset = 0x1000
	// The memory that the kernel takes beyond the end of its file (bss, brk). The
	// library does not state it. The kernels take less than 16 MiB, and the kernel
	// frees the surplus at boot.
	wrapBSS = 32 << 20

	notePVH = 18 // XEN_ELFNOTE_PHYS32_ENTRY, include/xen/interface/elfnote.h
)

// ErrNoPVH says that QEMU cannot start an ELF kernel, because it has no PVH entry.
var ErrNoPVH = errors.New("no PVH entry note (a kernel built without CONFIG_PVH)")

// A bundle is the kernel inside a libkrunfw library: its memory image and its load
// address.
type bundle struct {
	architecture string
	load         uint64
	memory       []byte
}

// openBundle takes the kernel out of a libkrunfw library.
func openBundle(f *elf.File) (bundle, error) {
	kind, ok := libraries[f.Machine]
	if !ok || f.Class != elf.ELFCLASS64 {
		return bundle{}, fmt.Errorf("libkrunfw for %v: only x86-64 and arm64 are supported", f.Machine)
	}
	getter, object, err := bundleSymbols(f)
	if err != nil {
		return bundle{}, err
	}
	code, err := readSymbol(f, getter, min(getter.Size, getterBytes))
	if err != nil {
		return bundle{}, err
	}
	load, entry, size, err := kind.placement(code)
	if err != nil {
		return bundle{}, err
	}
	if size > object.Size || size > maxImage || entry < load || entry-load >= size {
		return bundle{}, fmt.Errorf("%s: load %#x, entry %#x, size %d do not fit an object of %d bytes",
			getterSymbol, load, entry, size, object.Size)
	}
	memory, err := readSymbol(f, object, size)
	return bundle{kind.architecture, load, memory}, err
}

func bundleSymbols(f *elf.File) (getter, object elf.Symbol, err error) {
	symbols, err := f.DynamicSymbols()
	if err != nil {
		return getter, object, fmt.Errorf("dynamic symbols: %w", err)
	}
	for _, s := range symbols {
		switch {
		case s.Name == bundleSymbol && elf.ST_TYPE(s.Info) == elf.STT_OBJECT:
			object = s
		case s.Name == getterSymbol && elf.ST_TYPE(s.Info) == elf.STT_FUNC:
			getter = s
		}
	}
	if getter.Size == 0 || object.Size == 0 {
		return getter, object, fmt.Errorf("no %s and %s: not a libkrunfw library", bundleSymbol, getterSymbol)
	}
	return getter, object, nil
}

// readSymbol reads the first size bytes of the object s.
func readSymbol(f *elf.File, s elf.Symbol, size uint64) ([]byte, error) {
	for _, p := range f.Progs {
		if p.Type != elf.PT_LOAD || s.Value < p.Vaddr || s.Value-p.Vaddr >= p.Filesz {
			continue
		}
		at := s.Value - p.Vaddr
		if size > p.Filesz-at || at > math.MaxInt64 {
			break
		}
		// ReadAll grows its buffer as it reads, so a false length allocates nothing.
		b, err := io.ReadAll(io.NewSectionReader(p, int64(at), int64(size)))
		if err == nil && uint64(len(b)) != size {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.Name, err)
		}
		return b, nil
	}
	return nil, fmt.Errorf("%s: not within the file's segments", s.Name)
}

// placement reads the load address, the entry address and the size from the code that
// returns them: three times movq $imm32, (%rax), in this order. The numbers exist only
// as immediates in that code.
func placement(code []byte) (load, entry, size uint64, err error) {
	var found []uint64
	store := []byte{0x48, 0xc7, 0x00}
	for i := bytes.Index(code, store); i >= 0 && i+7 <= len(code); {
		found = append(found, uint64(binary.LittleEndian.Uint32(code[i+3:])))
		code = code[i+7:]
		i = bytes.Index(code, store)
	}
	// The processor sign-extends imm32, so a number of 2 GiB or more would be read
	// wrongly.
	if len(found) != 3 || max(found[0], found[1], found[2]) > math.MaxInt32 {
		return 0, 0, 0, fmt.Errorf("%s: its code is not the three known assignments", getterSymbol)
	}
	return found[0], found[1], found[2], nil
}

// pvh finds the PVH entry note in the kernel's memory: where it is, its length,
// and the entry that it states.
func (b bundle) pvh() (at, length, entry uint64, err error) {
	for _, desc := range []int{8, 4} {
		head := noteHead(desc)
		for i := 0; ; i++ {
			n := bytes.Index(b.memory[i:], head)
			if n < 0 || i+n+len(head)+desc > len(b.memory) {
				break
			}
			i += n
			if entry := noteValue(b.memory[i+len(head):], desc); b.holds(entry) {
				return uint64(i), uint64(len(head) + desc), entry, nil
			}
		}
	}
	return 0, 0, 0, ErrNoPVH
}

func (b bundle) holds(address uint64) bool {
	return address >= b.load && address-b.load < uint64(len(b.memory))
}

func noteHead(desc int) []byte {
	head := binary.LittleEndian.AppendUint32(nil, 4)
	head = binary.LittleEndian.AppendUint32(head, uint32(desc))
	head = binary.LittleEndian.AppendUint32(head, notePVH)
	return append(head, "Xen\x00"...)
}

func noteValue(b []byte, size int) uint64 {
	if size == 8 {
		return binary.LittleEndian.Uint64(b)
	}
	return uint64(binary.LittleEndian.Uint32(b))
}

// writeELF writes the kernel as an ELF file that QEMU's -kernel starts: one segment
// with all of its memory, and a note segment over the PVH note in it. The file needs
// both, because QEMU looks for the note in the program headers.
func (b bundle) writeELF(w io.Writer) error {
	at, length, entry, err := b.pvh()
	if err != nil {
		return err
	}
	size := uint64(len(b.memory))
	head := elf.Header64{
		Ident: [16]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:  uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: uint32(elf.EV_CURRENT),
		Entry: entry, Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 2,
	}
	progs := []elf.Prog64{
		{
			Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_W | elf.PF_X), Off: wrapOffset,
			Vaddr: b.load, Paddr: b.load, Filesz: size, Memsz: size + wrapBSS, Align: 0x1000,
		},
		{
			Type: uint32(elf.PT_NOTE), Flags: uint32(elf.PF_R), Off: wrapOffset + at,
			Vaddr: b.load + at, Paddr: b.load + at, Filesz: length, Memsz: length, Align: 4,
		},
	}
	var page bytes.Buffer
	if err := errors.Join(binary.Write(&page, binary.LittleEndian, head), binary.Write(&page, binary.LittleEndian, progs)); err != nil {
		return err
	}
	page.Write(make([]byte, wrapOffset-page.Len()))
	if _, err := page.WriteTo(w); err != nil {
		return err
	}
	_, err = w.Write(b.memory)
	return err
}
