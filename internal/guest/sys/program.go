package sys

import (
	"fmt"
	"os"
	"reflect"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ReleaseProgram gives the pages of this program's file back to the kernel. The kernel maps
// nearly all of it in during the boot, whose code is not used again; what is used comes back
// from the page cache at a fault for sixteen pages.
func ReleaseProgram() error {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return err
	}
	all, err := programMappings(string(maps), reflect.ValueOf(ReleaseProgram).Pointer())
	if err != nil {
		return err
	}
	for _, m := range all {
		// The library's wrapper wants a slice, and this memory is not Go's.
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, m.start, m.end-m.start, unix.MADV_DONTNEED); errno != 0 {
			return os.NewSyscallError("madvise", errno)
		}
	}
	return nil
}

// A mapping is a range of addresses; the end is not in it.
type mapping struct{ start, end uintptr }

// programMappings finds the mappings of the file with the code at an address that nobody
// can write to: their pages are those of the file. The form is that of proc_pid_maps(5).
func programMappings(maps string, code uintptr) (all []mapping, err error) {
	const device, inode, fields = 3, 4, 5
	of := map[string][]mapping{} // Of each file.
	program := ""
	for line := range strings.Lines(maps) {
		w := strings.Fields(line)
		if len(w) < fields || len(w[1]) < 2 { //nolint:mnd // Its second letter is looked at.
			return nil, fmt.Errorf("/proc/self/maps: %q", line)
		}
		m, err := parseRange(w[0])
		if err != nil {
			return nil, err
		}
		file := w[device] + " " + w[inode]
		if w[1][1] == '-' {
			of[file] = append(of[file], m)
		}
		if m.start <= code && code < m.end {
			program = file
		}
	}
	return of[program], nil
}

func parseRange(text string) (m mapping, err error) {
	from, to, _ := strings.Cut(text, "-")
	const base, bits = 16, 64
	start, err := strconv.ParseUint(from, base, bits)
	if err != nil {
		return m, fmt.Errorf("/proc/self/maps: %q: %w", text, err)
	}
	end, err := strconv.ParseUint(to, base, bits)
	if err != nil {
		return m, fmt.Errorf("/proc/self/maps: %q: %w", text, err)
	}
	return mapping{uintptr(start), uintptr(end)}, nil
}
