// Scan prints a line for every file beneath a directory with all that stat(2) and
// listxattr(2) tell of it and a sum of its content. A test runs it on the host and
// in a machine: where the lines are the same, so are the trees.
package main

import (
	"fmt"
	"hash/crc64"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

func main() {
	if err := scan(os.Args[1]); err != nil {
		fmt.Println("error:", err) // A line that the other side has not.
	}
}

// scan goes through the directory in order, and stays on its file system.
func scan(root string) error {
	first := map[uint64]string{}                                                      // Of each file with several names.
	return filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error { //nolint:gosec // G703: the test names the directory.
		if err != nil {
			return err
		}
		var st syscall.Stat_t
		if err := syscall.Lstat(path, &st); err != nil {
			return err
		}
		name := "." + strings.TrimPrefix(path, root)
		content, err := describe(path, st)
		if err != nil {
			return err
		}
		if st.Mode&syscall.S_IFMT != syscall.S_IFDIR && st.Nlink > 1 {
			if other, ok := first[st.Ino]; ok {
				content += " same as " + other
			} else {
				first[st.Ino] = name
			}
		}
		_, err = fmt.Printf("%s %o %d:%d links=%d %d.%09d %s\n", name, st.Mode, st.Uid, st.Gid, st.Nlink, st.Mtim.Sec, st.Mtim.Nsec, content)
		return err
	})
}

// describe tells what is in a file, by its kind.
func describe(path string, st syscall.Stat_t) (string, error) {
	if st.Mode&syscall.S_IFMT == syscall.S_IFLNK {
		target, err := os.Readlink(path)
		return "-> " + target, err
	}
	var parts []string
	switch st.Mode & syscall.S_IFMT {
	case syscall.S_IFREG:
		sum, err := checksum(path)
		if err != nil {
			return "", err
		}
		parts = append(parts, fmt.Sprintf("size=%d sum=%x", st.Size, sum))
	case syscall.S_IFCHR, syscall.S_IFBLK:
		parts = append(parts, fmt.Sprintf("rdev=%x", st.Rdev))
	}
	attributes, err := xattrs(path)
	return strings.Join(append(parts, attributes...), " "), err
}

func checksum(path string) (uint64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	h := crc64.New(crc64.MakeTable(crc64.ECMA)) // Quick also on an emulated processor.
	_, err = io.Copy(h, f)
	_ = f.Close() // It was only read.
	return h.Sum64(), err
}

func xattrs(path string) (all []string, err error) {
	const most = 64 << 10 // XATTR_LIST_MAX, XATTR_SIZE_MAX
	list := make([]byte, most)
	n, err := syscall.Listxattr(path, list)
	if err != nil || n == 0 {
		return nil, err
	}
	names := strings.Split(strings.TrimSuffix(string(list[:n]), "\x00"), "\x00")
	slices.Sort(names)
	for _, name := range names {
		value := make([]byte, most)
		n, err := syscall.Getxattr(path, name, value)
		if err != nil {
			return nil, err
		}
		all = append(all, fmt.Sprintf("%s=%x", name, value[:n]))
	}
	return all, nil
}
