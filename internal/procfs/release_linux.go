package procfs

import (
	"fmt"
	"os"
	"reflect"
	"strconv"
	"strings"
	"syscall"
)

// ReleaseProgram gives the pages of this program's file back to the kernel. The kernel maps
// nearly all of it in during the start, whose code is not used again; what is used comes
// back from the page cache at a fault for sixteen pages.
func ReleaseProgram() error {
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return err
	}
	all, err := cleanMappings(string(smaps), reflect.ValueOf(ReleaseProgram).Pointer())
	if err != nil {
		return fmt.Errorf("/proc/self/smaps: %w", err)
	}
	for _, m := range all {
		errno := m.advise(dontNeedLocked)
		if errno == syscall.EINVAL {
			errno = m.advise(syscall.MADV_DONTNEED)
		}
		if errno != 0 {
			return fmt.Errorf("madvise %x-%x: %w", m.start, m.end, errno)
		}
	}
	return nil
}

// dontNeedLocked is MADV_DONTNEED_LOCKED (Linux 5.18): for pages that mlock keeps, too.
const dontNeedLocked = 24

// The library's wrapper wants a slice, and this memory is not Go's.
func (m mapping) advise(how uintptr) syscall.Errno {
	_, _, errno := syscall.Syscall(syscall.SYS_MADVISE, m.start, m.end-m.start, how)
	return errno
}

// A mapping is a range of addresses of one file; the end is not in it.
type mapping struct {
	start, end uintptr
	file       string // Device and inode: a file may have lost its name.
	fixed      bool   // Nobody can write to it.
	written    bool   // It has pages that are not the file's.
}

// cleanMappings finds the mappings of the file with the code at an address that nobody can
// write to and nobody has written to, in the form of proc_pid_smaps(5). A page that was
// written to, as those of a program that is relocated at its start, would be lost. Such
// pages are anonymous, in memory or swapped out; Private_Dirty also counts pages of a new
// file that are not on its disk yet, and all of a tmpfs.
func cleanMappings(smaps string, code uintptr) (clean []mapping, err error) {
	var all []mapping
	program := ""
	for line := range strings.Lines(smaps) {
		w := strings.Fields(line)
		switch {
		case len(w) > 0 && strings.HasSuffix(w[0], ":"):
			if n := len(all); n > 0 && (w[0] == "Anonymous:" || w[0] == "Swap:") && (len(w) < 2 || w[1] != "0") { //nolint:mnd // A name and a value.
				all[n-1].written = true
			}
			continue
		case len(w) < 5 || len(w[1]) != 4: //nolint:mnd // Range, permissions, offset, device and inode.
			return nil, fmt.Errorf("%q: want a mapping or one of its fields", line)
		}
		m := mapping{file: w[3] + " " + w[4], fixed: w[1][1] == '-'}
		if m.start, m.end, err = parseRange(w[0]); err != nil {
			return nil, err
		}
		if m.start <= code && code < m.end {
			program = m.file
		}
		all = append(all, m)
	}
	for _, m := range all {
		if m.file == program && m.fixed && !m.written {
			clean = append(clean, m)
		}
	}
	return clean, nil
}

func parseRange(text string) (start, end uintptr, err error) {
	const base, bits = 16, 64
	from, to, _ := strings.Cut(text, "-")
	a, err := strconv.ParseUint(from, base, bits)
	if err != nil {
		return 0, 0, fmt.Errorf("%q: %w", text, err)
	}
	b, err := strconv.ParseUint(to, base, bits)
	if err != nil {
		return 0, 0, fmt.Errorf("%q: %w", text, err)
	}
	return uintptr(a), uintptr(b), nil
}
