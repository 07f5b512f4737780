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
	all, err := ownMappings("/proc/self/smaps")
	if err != nil {
		return err
	}
	for _, m := range all {
		if !m.clean() {
			continue
		}
		errno := m.advise(dontNeedLocked)
		if errno == syscall.EINVAL {
			errno = m.advise(syscall.MADV_DONTNEED)
		}
		if errno != 0 {
			return fmt.Errorf("madvise %x-%x: %w", m.Start, m.End, errno)
		}
	}
	return nil
}

// dontNeedLocked is MADV_DONTNEED_LOCKED (Linux 5.18): for pages that mlock keeps, too.
const dontNeedLocked = 24

// The library's wrapper wants a slice, and this memory is not Go's.
func (m Mapping) advise(how uintptr) syscall.Errno {
	_, _, errno := syscall.Syscall(syscall.SYS_MADVISE, m.Start, m.End-m.Start, how)
	return errno
}

// A Mapping is a range of addresses of one file; End is not in it.
type Mapping struct {
	Start, End uintptr

	file    string // Device and inode: a file may have lost its name.
	fixed   bool   // Nobody can write to it.
	written bool   // It has pages that are not the file's. Only smaps tells that.
}

// clean reports whether nobody can write to a mapping and nobody has written to it. A page that
// was written to, as those of a program that is relocated at its start, would be lost. Such
// pages are anonymous, in memory or swapped out; Private_Dirty also counts pages of a new
// file that are not on its disk yet, and all of a tmpfs.
func (m Mapping) clean() bool { return m.fixed && !m.written }

// OwnMappings lists the mappings of this program's file.
func OwnMappings() ([]Mapping, error) { return ownMappings("/proc/self/maps") }

func ownMappings(from string) ([]Mapping, error) {
	text, err := os.ReadFile(from)
	if err != nil {
		return nil, err
	}
	all, err := mappingsOf(string(text), reflect.ValueOf(OwnMappings).Pointer())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", from, err)
	}
	return all, nil
}

// mappingsOf finds the mappings of the file with the code at an address, in the form of
// proc_pid_maps(5) or proc_pid_smaps(5).
func mappingsOf(maps string, code uintptr) (own []Mapping, err error) {
	var all []Mapping
	program := ""
	for line := range strings.Lines(maps) {
		if field, value, ok := strings.Cut(line, ":"); ok && !strings.Contains(field, " ") {
			if n := len(all); n > 0 && (field == "Anonymous" || field == "Swap") && strings.TrimSpace(value) != "0 kB" {
				all[n-1].written = true
			}
			continue
		}
		w := strings.Fields(line)
		if len(w) < 5 || len(w[1]) != 4 { //nolint:mnd // Range, permissions, offset, device and inode.
			return nil, fmt.Errorf("%q: want a mapping or one of its fields", line)
		}
		m := Mapping{file: w[3] + " " + w[4], fixed: w[1][1] == '-'}
		if m.Start, m.End, err = parseRange(w[0]); err != nil {
			return nil, err
		}
		if m.Start <= code && code < m.End {
			program = m.file
		}
		all = append(all, m)
	}
	for _, m := range all {
		if m.file == program {
			own = append(own, m)
		}
	}
	return own, nil
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
