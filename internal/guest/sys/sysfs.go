package sys

import (
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"
)

// The boot reads and writes a few small files of sysfs and procfs by bare system calls.
// Package os would register each with its poller and read once more to find the end, which
// took a fifth of a small boot under emulation.

// list returns the names in a directory with few, short names, as sysfs has.
func list(dir string) (names []string, err error) {
	fd, err := open(dir, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(fd) }() // Read only: nothing to lose.
	buf := make([]byte, 1024)             // Of the few entries that such a directory has.
	for {
		n, err := retry(func() (int, error) { return unix.ReadDirent(fd, buf) })
		if err != nil {
			return nil, &fs.PathError{Op: "read", Path: dir, Err: err}
		}
		if n <= 0 {
			return names, nil
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names)
	}
}

// attributeOf returns the value of a file of sysfs, which is a name or a number and comes in
// one read.
func attributeOf(path string) (string, error) {
	fd, err := open(path, unix.O_RDONLY)
	if err != nil {
		return "", err
	}
	defer func() { _ = unix.Close(fd) }()
	buf := make([]byte, 256)
	n, err := retry(func() (int, error) { return unix.Read(fd, buf) })
	if err != nil {
		return "", &fs.PathError{Op: "read", Path: path, Err: err}
	}
	return strings.TrimSpace(string(buf[:max(n, 0)])), nil
}

// readLink returns where a link of sysfs leads.
func readLink(path string) (string, error) {
	buf := make([]byte, 256)
	n, err := retry(func() (int, error) { return unix.Readlink(path, buf) })
	return string(buf[:max(n, 0)]), pathError("readlink", path, err)
}

// put writes a value to such a file, in one write.
func put(path, value string) error {
	fd, err := open(path, unix.O_WRONLY)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }() // The write has reported all errors.
	_, err = retry(func() (int, error) { return unix.Write(fd, []byte(value)) })
	return pathError("write", path, err)
}
