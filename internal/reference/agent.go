package reference

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

const (
	// The host programs take 30 to 50 MB.
	programBytes = 256 << 20
	// The agents take 1.6 to 2.6 MB. A much smaller file is no agent, and a much larger
	// one is the host program itself.
	agentMin = 64 << 10
	agentMax = 32 << 20
	// elfHeader is the size of a 64-bit ELF file header.
	elfHeader = 64
	// elfMachine is the offset of e_machine in it.
	elfMachine = 18
)

// ErrNoAgent says that a program embeds no agent.
var ErrNoAgent = errors.New("no static agent for its processor embedded")

// ExtractAgent returns the agent that the host program at path embeds: the one static
// ELF file for its own processor in its data that contains the text "agentd".
func ExtractAgent(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, programBytes))
	if err != nil {
		return nil, err
	}
	agent, err := findAgent(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return agent, nil
}

// findAgent skips the host program's own ELF header at the start of program.
func findAgent(program []byte) ([]byte, error) {
	if len(program) < elfHeader {
		return nil, ErrNoAgent
	}
	magic, own := []byte(elf.ELFMAG), elf.Machine(binary.LittleEndian.Uint16(program[elfMachine:]))
	for at := 1; at < len(program); at++ {
		n := bytes.Index(program[at:], magic)
		if n < 0 {
			break
		}
		at += n
		if agent, ok := agentAt(program[at:], own); ok {
			return bytes.Clone(agent), nil
		}
	}
	return nil, ErrNoAgent
}

func agentAt(b []byte, own elf.Machine) ([]byte, bool) {
	// Every program that reads ELF contains an ELF magic, so check the rest of the
	// identification before the costly parsing.
	if len(b) < elfHeader || elf.Class(b[elf.EI_CLASS]) != elf.ELFCLASS64 {
		return nil, false
	}
	b = b[:min(len(b), agentMax)]
	f, err := elf.NewFile(bytes.NewReader(b))
	if err != nil || f.Machine != own || !isStaticProgram(f) {
		return nil, false
	}
	end := fileEnd(f, b)
	if end < agentMin || end > uint64(len(b)) {
		return nil, false
	}
	b = b[:end]
	return b, bytes.Contains(b, []byte("agentd"))
}

// isStaticProgram also accepts position-independent programs, which are ET_DYN like
// libraries but have an entry point.
func isStaticProgram(f *elf.File) bool {
	if f.Entry == 0 || f.Type != elf.ET_EXEC && f.Type != elf.ET_DYN {
		return false
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return false
		}
	}
	return len(f.Progs) > 0
}

// fileEnd returns the end of the file: the last end of its segments, sections and
// section table. No header field states it.
func fileEnd(f *elf.File, b []byte) uint64 {
	// Elf64_Ehdr: e_shoff at 40, e_shentsize at 58, e_shnum at 60.
	end := f.ByteOrder.Uint64(b[40:]) + uint64(f.ByteOrder.Uint16(b[58:]))*uint64(f.ByteOrder.Uint16(b[60:]))
	for _, p := range f.Progs {
		end = max(end, p.Off+p.Filesz)
	}
	for _, s := range f.Sections {
		if s.Type != elf.SHT_NOBITS {
			end = max(end, s.Offset+s.FileSize)
		}
	}
	return end
}
