//go:build !linux

package transfer

import (
	"errors"
	"io/fs"
	"os"
	"time"
)

// errLink says that a file is a link and was not expected to be one.
var errLink = errors.New("a link")

// describe sets the permissions and the time of a file or directory. It refuses a link.
// Other systems than Linux cannot hold the file between the two; [os.Root] keeps a link
// that another program makes meanwhile from leading out of the directory.
func describe(root *os.Root, name string, mode fs.FileMode, mtime time.Time) error {
	info, err := root.Lstat(name)
	if err != nil {
		return err
	}
	if info.Mode().Type() == fs.ModeSymlink {
		return &fs.PathError{Op: "chmod", Path: name, Err: errLink}
	}
	return errors.Join(root.Chmod(name, mode), root.Chtimes(name, time.Time{}, mtime))
}

// timeLink does nothing: package os can only set the time of a link's target.
func timeLink(*os.Root, string, time.Time) error { return nil }

// setTime sets the time of the file by its temporary name.
func (f *hostFile) setTime(mtime time.Time) error { return f.root.Chtimes(f.part, time.Time{}, mtime) }
