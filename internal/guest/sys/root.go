package sys

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// resolveInside refuses to leave the root and to follow any link on the way,
// also those of /proc (openat2(2), since Linux 5.6).
const resolveInside = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS

// A Root is a directory that names are resolved beneath. Names are slash
// separated; a leading slash means the root itself.
type Root struct{ fd int }

// OpenRoot opens the directory dir. It follows links: the path is trusted.
func OpenRoot(dir string) (*Root, error) {
	fd, err := retry(func() (int, error) {
		return unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, &fs.PathError{Op: "open root", Path: dir, Err: err}
	}
	return &Root{fd: fd}, nil
}

// Open opens the directory name as a root of its own. No link is followed.
func (r *Root) Open(name string) (*Root, error) {
	fd, err := r.open(name, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	return &Root{fd: fd}, nil
}

// Path returns a path to the root that stays good when directories are renamed
// or mounted over. It needs /proc, and the root open.
func (r *Root) Path() string { return fmt.Sprintf("/proc/self/fd/%d", r.fd) }

// Close closes the root; what was opened through it stays open.
func (r *Root) Close() error { return os.NewSyscallError("close", unix.Close(r.fd)) }

// relative is name as openat2 wants it beneath the root.
func relative(name string) string {
	if name = strings.TrimLeft(path.Clean("/"+name), "/"); name == "" {
		return "."
	}
	return name
}

// open opens name, following no link.
func (r *Root) open(name string, flags int) (int, error) {
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: resolveInside}
	fd, err := retry(func() (int, error) { return unix.Openat2(r.fd, relative(name), &how) })
	return fd, pathError("open", name, explainLink(err))
}

// ErrLink is in every error about a symbolic link where none is allowed.
var ErrLink = errors.New("a symbolic link stands in the way")

// explainLink replaces ELOOP and EXDEV, which mean a link here, by ErrLink.
func explainLink(err error) error {
	if err == unix.ELOOP || err == unix.EXDEV { //nolint:errorlint // Bare numbers.
		return fmt.Errorf("%w: %w", ErrLink, err)
	}
	return err
}

// MkdirAll makes the directory name and its missing parents with perm (before
// the umask). No link is followed: one in the way is an error.
func (r *Root) MkdirAll(name string, perm uint32) error {
	at, base, err := r.parentOf(name, perm)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(at) }() // O_PATH: close has nothing to report.
	// Make it without looking for it first. Each call is a request to a host that serves
	// the root, and one is enough for a directory that exists.
	err = unix.Mkdirat(at, base, perm)
	if errors.Is(err, unix.EEXIST) {
		var fd int
		if fd, err = mkdirAt(at, base, perm, false); err == nil {
			err = unix.Close(fd)
		}
	}
	return pathError("mkdir", name, err)
}

// mkdirAll returns an O_PATH descriptor of the directory. fresh says that in most cases the
// directory does not exist yet.
func (r *Root) mkdirAll(name string, perm uint32, fresh bool) (int, error) {
	at, err := r.makeDir(relative(name), perm, fresh)
	return at, pathError("mkdir", name, err)
}

// parentOf returns an O_PATH descriptor of the directory that name lies in, which is
// made with perm if it is missing, and what name is called there.
func (r *Root) parentOf(name string, perm uint32) (dir int, base string, err error) {
	parent, base := cutLast(relative(name))
	dir, err = r.mkdirAll("/"+parent, perm, false)
	return dir, base, err
}

// makeDir is mkdirAll for a relative name. In most cases the parents exist, and one call
// shows that.
func (r *Root) makeDir(rel string, perm uint32, fresh bool) (int, error) {
	dir, base := cutLast(rel)
	if dir == "." {
		return mkdirAt(r.fd, base, perm, fresh)
	}
	at, err := r.open(dir, unix.O_PATH|unix.O_DIRECTORY)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, ErrLink) { // Part by part, to make one or to name the link.
		at, err = r.makeDir(dir, perm, fresh)
	}
	if err != nil {
		return -1, err
	}
	defer func() { _ = unix.Close(at) }()
	return mkdirAt(at, base, perm, fresh)
}

// cutLast splits a relative name into the directory and the last of its parts.
func cutLast(rel string) (dir, base string) {
	if i := strings.LastIndexByte(rel, '/'); i >= 0 {
		return rel[:i], rel[i+1:]
	}
	return ".", rel
}

// mkdirAt opens the directory part of at, and makes a missing one. With fresh it makes the
// directory without looking for it first, which saves a request to a host that serves the
// root.
func mkdirAt(at int, part string, perm uint32, fresh bool) (int, error) {
	const flags = unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	Yield()
	for {
		if fresh {
			if err := unix.Mkdirat(at, part, perm); err != nil && !errors.Is(err, unix.EEXIST) {
				return -1, err
			}
		}
		fd, err := retry(func() (int, error) { return unix.Openat(at, part, flags, 0) })
		if errors.Is(err, unix.ENOTDIR) {
			return -1, notDirectory(at, part, err)
		}
		if !errors.Is(err, unix.ENOENT) {
			return fd, err
		}
		fresh = true
	}
}

// notDirectory tells a link in the way from any other file: O_DIRECTORY and
// O_NOFOLLOW answer ENOTDIR for both.
func notDirectory(at int, part string, err error) error {
	var st unix.Stat_t
	if unix.Fstatat(at, part, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK {
		return fmt.Errorf("%s: %w: %w", part, ErrLink, err)
	}
	return fmt.Errorf("%s: %w", part, err)
}

// Symlink makes name a link to target unless something is there already.
func (r *Root) Symlink(target, name string) error {
	dir, base, err := r.parentOf(name, 0o755)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(dir) }()
	err = unix.Symlinkat(target, dir, base)
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return &os.LinkError{Op: "symlink", Old: target, New: name, Err: err}
	}
	return nil
}

// sticky is the mode of a directory in which everybody may create files and may delete
// only their own.
const sticky = unix.S_ISVTX | 0o777

// Sticky makes name a directory of mode 1777 (as /tmp is).
func (r *Root) Sticky(name string) error {
	fd, err := r.mkdirAll(name, 0o755, false)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	if st.Mode&0o7777 == sticky {
		return nil
	}
	// fchmod refuses O_PATH; "." of the same directory is the same file.
	return pathError("chmod", name, unix.Fchmodat(fd, ".", sticky, 0))
}

// IsSticky reports whether name is a directory of mode 1777, links inside the
// root followed.
func (r *Root) IsSticky(name string) bool {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT}
	fd, err := retry(func() (int, error) { return unix.Openat2(r.fd, relative(name), &how) })
	if err != nil {
		return false
	}
	defer func() { _ = unix.Close(fd) }()
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Mode&0o7777 == sticky
}

// open opens a file by its path, links followed.
func open(path string, flags int) (int, error) {
	fd, err := retry(func() (int, error) { return unix.Open(path, flags|unix.O_CLOEXEC, 0) })
	return fd, pathError("open", path, err)
}

// pathError tells of the operation and the path of an error, if there is one.
func pathError(op, path string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: path, Err: err}
}

// retry repeats a call that a signal interrupted (EINTR, signal(7)).
func retry[T any](call func() (T, error)) (T, error) {
	for {
		v, err := call()
		if !errors.Is(err, unix.EINTR) {
			return v, err
		}
	}
}
