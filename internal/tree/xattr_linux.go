package tree

import (
	"errors"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/agentd-go/agentd/internal/pax"
)

// reach returns a path to a file for the calls that take no descriptor of a link: the
// file of that name in an open directory, or the open file itself.
func reach(fd int, base string) string {
	s := "/proc/self/fd/" + strconv.Itoa(fd)
	if base != "" {
		s += "/" + base
	}
	return s
}

// xattrs adds the extended attributes of a file to its header. The file is open, or the
// name base of an open directory.
func (p *Packer) xattrs(h *pax.Header, fd int, base string) {
	list := func(b []byte) (int, error) { return unix.Flistxattr(fd, b) }
	get := func(name string, b []byte) (int, error) { return unix.Fgetxattr(fd, name, b) }
	if base != "" {
		path := reach(fd, base)
		list = func(b []byte) (int, error) { return unix.Llistxattr(path, b) }
		get = func(name string, b []byte) (int, error) { return unix.Lgetxattr(path, name, b) }
	}
	names, err := grown(list)
	if err != nil {
		if !unsupported(err) {
			p.problem("listxattr", h.Name, err)
		}
		return
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names), "\x00"), "\x00") {
		if name == "" {
			continue
		}
		value, err := grown(func(b []byte) (int, error) { return get(name, b) })
		if errors.Is(err, unix.ENODATA) {
			continue // It was removed meanwhile.
		}
		if err != nil {
			p.problem("getxattr "+name, h.Name, err)
			continue
		}
		h.Xattrs = append(h.Xattrs, pax.Xattr{Name: name, Value: string(value)})
	}
}

// unsupported reports whether a file system has no extended attributes.
func unsupported(err error) bool {
	return errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS)
}

// grown calls a function with a buffer that is large enough.
func grown(call func([]byte) (int, error)) ([]byte, error) {
	const usual, most = 256, 64 << 10 // No list and no value is longer (xattr(7)).
	for size := usual; ; size = most {
		b := make([]byte, size)
		n, err := retry(func() (int, error) { return call(b) })
		if err == nil {
			return b[:n], nil
		}
		if size == most || !errors.Is(err, unix.ERANGE) {
			return nil, err
		}
	}
}

// setXattrs sets the extended attributes of a file, which is open or the name base of an
// open directory.
func (u *Unpacker) setXattrs(h *pax.Header, fd int, base string) {
	for _, x := range h.Xattrs {
		err := again(func() error {
			if base == "" {
				return unix.Fsetxattr(fd, x.Name, []byte(x.Value), 0)
			}
			return unix.Lsetxattr(reach(fd, base), x.Name, []byte(x.Value), 0)
		})
		if err != nil {
			u.Report.Problem("setxattr "+x.Name, h.Name, err)
		}
	}
}
