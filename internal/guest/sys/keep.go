package sys

import (
	"errors"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// KeepProgram keeps the pages of this process's program in memory once they are there
// (mlock2(2)). A command that takes all of the guest's memory makes the kernel drop what it
// can read again: without this the agent's own code, which it would then read from its
// disk or its host again and again.
func KeepProgram() error {
	all, err := ownMappings()
	if err != nil {
		return err
	}
	var errs []error
	for _, m := range all {
		const onFault = 1 // MLOCK_ONFAULT: no page is read for it.
		if _, _, errno := unix.Syscall(unix.SYS_MLOCK2, m.from, m.to-m.from, onFault); errno != 0 {
			errs = append(errs, os.NewSyscallError("mlock2", errno))
		}
	}
	return errors.Join(errs...)
}

// A mapping is a range of addresses.
type mapping struct{ from, to uintptr }

// ownMappings lists the mappings of this process's program: those of the first file in the
// table, which is in the order of addresses.
func ownMappings() (all []mapping, err error) {
	text, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return nil, err
	}
	const file, fields = 5, 6 // FROM-TO rights offset device inode file
	program := ""
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		if len(words) < fields || program != "" && words[file] != program {
			continue
		}
		from, to, _ := strings.Cut(words[0], "-")
		start, bad := strconv.ParseUint(from, 16, 64)
		end, alsoBad := strconv.ParseUint(to, 16, 64)
		if errors.Join(bad, alsoBad) != nil {
			return nil, errors.Join(bad, alsoBad)
		}
		program = words[file]
		all = append(all, mapping{uintptr(start), uintptr(end)})
	}
	return all, nil
}
