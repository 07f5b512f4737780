package main

import (
	"bytes"
	"cmp"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"maps"
	"os"
	"slices"
)

const (
	// blockSize is the size of one block's entry: its address and its instructions.
	blockSize = 16
	// blockRoom is more than the blocks of the agent and of busybox that are executed.
	blockRoom = 1 << 17
)

// hotspots writes the instructions that our agent's functions executed for one operation, most
// first. Addresses of other programs that the agent has too are taken for its own.
func (c *counter) hotspots(path string, binaryFile []byte, operations int) error {
	symbols, err := functions(binaryFile)
	if err != nil {
		return err
	}
	found := map[string]float64{}
	for at := 0; at < len(c.blocks); at += blockSize {
		pc, n := binary.NativeEndian.Uint64(c.blocks[at:]), binary.NativeEndian.Uint64(c.blocks[at+8:])
		found[cmp.Or(functionAt(symbols, pc), "(other programs)")] += float64(n) / float64(operations)
	}
	var b bytes.Buffer
	for _, name := range slices.SortedFunc(maps.Keys(found), func(a, b string) int { return cmp.Compare(found[b], found[a]) }) {
		if found[name] >= 1 {
			fmt.Fprintf(&b, "%9.0f %s\n", found[name], name)
		}
	}
	return os.WriteFile(path, b.Bytes(), 0o600)
}

// clearBlocks sets the instructions of all blocks to zero. The addresses stay: the plug-in writes
// them only once.
func (c *counter) clearBlocks() {
	for at := 0; at < len(c.blocks); at += blockSize {
		clear(c.blocks[at+8 : at+blockSize])
	}
}

// functions reads the functions of a program with symbols, by address.
func functions(program []byte) ([]elf.Symbol, error) {
	f, err := elf.NewFile(bytes.NewReader(program))
	if err != nil {
		return nil, err
	}
	all, err := f.Symbols()
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(s elf.Symbol) bool { return elf.ST_TYPE(s.Info) != elf.STT_FUNC })
	slices.SortFunc(all, func(a, b elf.Symbol) int { return cmp.Compare(a.Value, b.Value) })
	return all, nil
}

// functionAt is the name of the function at an address, "" if there is none.
func functionAt(all []elf.Symbol, pc uint64) string {
	i, found := slices.BinarySearchFunc(all, pc, func(s elf.Symbol, pc uint64) int { return cmp.Compare(s.Value, pc) })
	if !found {
		i--
	}
	if i < 0 || pc >= all[i].Value+max(all[i].Size, 1) {
		return ""
	}
	return all[i].Name
}
