// Command owner tries in a shared directory, its argument, what the host's users must
// not find there, and what they may. Each line is an attempt and its error.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

var dir string

func path(name string) string { return filepath.Join(dir, name) }

func main() {
	dir = os.Args[1]
	for _, a := range []struct {
		name string
		try  func() error
	}{
		{"mknod", func() error { return unix.Mknod(path("node"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))) }},
		{"whiteout", func() error { return unix.Mknod(path("whiteout"), unix.S_IFCHR, 0) }},
		{"fifo", func() error { return unix.Mkfifo(path("fifo"), 0o644) }},
		{"create", func() error { return create("made", 0o4755) }},
		{"mknod file", func() error { return unix.Mknod(path("made by mknod"), unix.S_IFREG|0o2755, 0) }},
		{"plain", func() error { return create("plain", 0o755) }},
		{"suid", func() error { return unix.Chmod(path("plain"), 0o4755) }},
		{"sgid", func() error { return unix.Chmod(path("plain"), 0o2755) }},
		{"sticky", func() error { return unix.Chmod(path("plain"), 0o1700) }},
		{"overwrite", overwrite},
		{"chown", func() error { return os.Chown(path("plain"), 7, 8) }},
		{"label", func() error { return attribute("security.selinux") }},
		{"user", func() error { return attribute("user.a") }},
		{"forged", func() error { return attribute("user.virtiofs.security.capability") }},
		{"trusted", func() error { return attribute("trusted.overlay.opaque") }},
		{"other", func() error { return attribute("system.other") }},
		{"capability", capability},
		{"list", list},
	} {
		fmt.Println(a.name+":", verdict(a.try()))
	}
}

func verdict(err error) string {
	if errno, ok := errors.AsType[unix.Errno](err); ok {
		return unix.ErrnoName(errno)
	}
	return fmt.Sprint(err)
}

// create uses the system's call: Go's own sets the bits by chmod.
func create(name string, mode uint32) error {
	fd, err := unix.Open(path(name), unix.O_CREAT|unix.O_WRONLY, mode)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// overwrite puts another program in the place of one with the bit.
func overwrite() error {
	f, err := os.OpenFile(path("of the host"), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString("another program")
	return errors.Join(err, f.Close())
}

func attribute(name string) error {
	if err := unix.Setxattr(path("plain"), name, []byte("value"), 0); err != nil {
		return err
	}
	return same(name, "value")
}

// capability gives a file one by a valid attribute: CAP_NET_RAW of version 2.
func capability() error {
	value := []byte{1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	if err := unix.Setxattr(path("plain"), "security.capability", value, 0); err != nil {
		return err
	}
	return same("security.capability", string(value))
}

func same(name, want string) error {
	buf := make([]byte, 64)
	n, err := unix.Getxattr(path("plain"), name, buf)
	if err == nil && string(buf[:n]) != want {
		err = fmt.Errorf("%s reads %q", name, buf[:n])
	}
	return err
}

// list is no attempt that fails, but what the guest sees.
func list() error {
	buf := make([]byte, 1024)
	n, err := unix.Listxattr(path("plain"), buf)
	names := strings.Split(strings.TrimRight(string(buf[:max(n, 0)]), "\x00"), "\x00")
	slices.Sort(names) // File servers have orders of their own.
	return errors.Join(err, errors.New(strings.Join(names, " ")))
}
