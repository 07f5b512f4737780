package sys

import (
	"bufio"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// MountOf finds where a virtiofs share of a tag is mounted.
func MountOf(tag string) (path string, ok bool) {
	return findMount(func(point, kind, source string) bool { return kind == "virtiofs" && source == tag })
}

// HasMount reports whether something is mounted at a path.
func HasMount(path string) bool {
	_, ok := findMount(func(point, _, _ string) bool { return point == path })
	return ok
}

// findMount returns the mount point of the newest mount that wanted says yes to.
func findMount(wanted func(point, kind, source string) bool) (path string, ok bool) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return "", false
	}
	defer func() { _ = f.Close() }()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		// 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw (proc_pid_mountinfo(5)).
		const point, kind, source = 4, 0, 1
		before, after, _ := strings.Cut(lines.Text(), " - ")
		b, a := strings.Fields(before), strings.Fields(after)
		if len(b) <= point || len(a) <= source {
			continue
		}
		if at := unescape(b[point]); wanted(at, a[kind], unescape(a[source])) {
			path, ok = at, true
		}
	}
	return path, ok
}

// unescape undoes what the kernel does to blanks in names: a backslash and three octal digits.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// SyncMount syncs the file system at a mount point and waits for it. For a shared directory
// it waits until the host has the data.
func SyncMount(path string) error {
	fd, err := open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }() // Read only: nothing to lose.
	return again(func() error { return unix.Syncfs(fd) })
}
