package host

import (
	"bufio"
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// LetGo gives memory back to the system that this process does not need while it rests:
// the free part of the heap, and the pages of its own program file. The kernel maps
// nearly all of that file in at the start, and the agent for the machine is in it; what is
// used again comes back from the page cache.
func LetGo() error {
	debug.FreeOSMemory()
	program, err := os.Executable()
	if err != nil {
		return err
	}
	smaps, err := os.Open("/proc/self/smaps")
	if err != nil {
		return err
	}
	defer func() { _ = smaps.Close() }()
	all, err := cleanMappings(smaps, program)
	if err != nil {
		return err
	}
	for _, m := range all {
		// The library's wrapper wants a slice, and this memory is not Go's.
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, m.start, m.end-m.start, unix.MADV_DONTNEED); errno != 0 {
			return fmt.Errorf("madvise %x-%x: %w", m.start, m.end, errno)
		}
	}
	return nil
}

// A mapping is a range of addresses.
type mapping struct{ start, end uintptr }

// cleanMappings finds the mappings of a file that nobody can write to and nobody has
// written to: their pages are those of the file (proc_pid_smaps(5)).
func cleanMappings(smaps *os.File, file string) (all []mapping, err error) {
	var m mapping
	ours := false
	lines := bufio.NewScanner(smaps)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		switch {
		case len(words) < 2: //nolint:mnd // A name and a value.
		case words[0] == "Private_Dirty:" && words[1] == "0" && ours:
			all = append(all, m)
		case strings.HasSuffix(words[0], ":"):
		default:
			ours = len(words) > 5 && words[5] == file && len(words[1]) == 4 && words[1][1] == '-'
			if m, err = parseRange(words[0]); err != nil {
				return nil, err
			}
		}
	}
	return all, lines.Err()
}

func parseRange(text string) (m mapping, err error) {
	from, to, _ := strings.Cut(text, "-")
	start, err := strconv.ParseUint(from, 16, 64)
	if err != nil {
		return m, fmt.Errorf("/proc/self/smaps: %q: %w", text, err)
	}
	end, err := strconv.ParseUint(to, 16, 64)
	if err != nil {
		return m, fmt.Errorf("/proc/self/smaps: %q: %w", text, err)
	}
	return mapping{uintptr(start), uintptr(end)}, nil
}
