package vmm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/agentd-go/agentd/internal/filelock"
)

func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// socketPair returns a connection, and its other end for a child to inherit.
func socketPair() (net.Conn, *os.File, error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "link"), os.NewFile(uintptr(fds[1]), "link")
	conn, err := net.FileConn(ours) // A copy of ours.
	if err = errors.Join(err, ours.Close()); err != nil {
		return nil, nil, errors.Join(err, theirs.Close())
	}
	return conn, theirs, nil
}

// duplicate returns another descriptor of an open file, for this process alone.
func duplicate(f *os.File) (*os.File, error) {
	fd, _, errno := syscall.Syscall(syscall.SYS_FCNTL, f.Fd(), syscall.F_DUPFD_CLOEXEC, 0)
	if errno != 0 {
		return nil, os.NewSyscallError("fcntl", errno)
	}
	return os.NewFile(fd, f.Name()), nil
}

// listening returns a socket that listens at path, for a child to inherit, and a
// connection to it that waits to be accepted.
func listening(path string) (net.Conn, *os.File, error) {
	const private = 0o600 // Whatever the umask is: bind(2) takes it from the descriptor.
	config := net.ListenConfig{Control: func(_, _ string, link syscall.RawConn) (err error) {
		failed := link.Control(func(fd uintptr) { err = syscall.Fchmod(int(fd), private) })
		return errors.Join(failed, err)
	}}
	listener, err := config.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, nil, err
	}
	l, ok := listener.(*net.UnixListener)
	if !ok {
		return nil, nil, fmt.Errorf("%s: a listener of type %T", path, listener)
	}
	l.SetUnlinkOnClose(false)
	defer func() { _ = l.Close() }() // The child keeps its copy.
	f, err := l.File()
	if err != nil {
		return nil, nil, err
	}
	conn, err := net.Dial("unix", path) //nolint:noctx // Never blocks: the accept queue has room.
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return conn, f, nil
}

// lifeline returns a listening Unix socket, and a connection to it that waits to be
// accepted. It removes the socket's name, so nobody else can connect and no file is
// left.
func lifeline() (listener, client *os.File, err error) {
	dir, err := socketDir()
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	name := &syscall.SockaddrUnix{Name: filepath.Join(dir, "fs")}
	listener, err = socket(func(fd int) error {
		return errors.Join(syscall.Bind(fd, name), syscall.Listen(fd, 1))
	})
	if err != nil {
		return nil, nil, fmt.Errorf("listen on %s: %w", name.Name, err)
	}
	client, err = socket(func(fd int) error { return syscall.Connect(fd, name) })
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("connect to %s: %w", name.Name, err), listener.Close())
	}
	return listener, client, nil
}

// socket makes a blocking Unix socket, which a child expects to inherit. Connecting
// never blocks, because the accept queue has room.
func socket(prepare func(fd int) error) (*os.File, error) {
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	f := os.NewFile(uintptr(fd), "share")
	if err := prepare(fd); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// socketDir makes a directory that only its owner can enter, with a short path: a Unix
// socket's path has at most 107 bytes (unix(7)), and we append "/vm-", up to ten
// digits, and "/fs". After su(1) $XDG_RUNTIME_DIR may belong to another user.
func socketDir() (string, error) {
	const room = 107 - len("/vm-") - 10 - len("/fs")
	if base := os.Getenv("XDG_RUNTIME_DIR"); base != "" && len(base) <= room {
		if dir, err := os.MkdirTemp(base, "vm-"); err == nil {
			return dir, nil
		}
	}
	return os.MkdirTemp("/tmp", "vm-")
}

// readHost collects the facts on which the virtiofsd command depends.
func readHost(ctx context.Context) (hostFacts, error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return hostFacts{}, err
	}
	self, err := os.Executable()
	if err != nil {
		return hostFacts{}, err
	}
	h := hostFacts{uid: os.Geteuid(), self: self, rootIsMount: hasRootMount(string(mounts))}
	if h.uid != 0 {
		h.idMap = probeIDMap(ctx, h)
	}
	return h, nil
}

// hasRootMount looks for a mount point "/" (proc_pid_mountinfo(5), field 5).
func hasRootMount(mountinfo string) bool {
	for line := range strings.Lines(mountinfo) {
		if f := strings.Fields(line); len(f) > 4 && f[4] == "/" {
			return true
		}
	}
	return false
}

// probeIDMap tries to make a namespace with mapped ids, because success depends on too
// many things to check each: programs, their rights, files, and kernel settings. If the
// namespace is refused, unshare(1) leaves a child that waits for ever and holds the
// output open. So the probe has its own deadline and kills both.
func probeIDMap(ctx context.Context, h hostFacts) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	probe := exec.CommandContext(ctx, "unshare", "--map-root-user", "--map-auto", "true")
	probe.SysProcAttr = childAttr()
	probe.WaitDelay = probeTail
	out, err := probe.CombinedOutput()
	if err == nil {
		return nil
	}
	if probe.Process != nil {
		_ = syscall.Kill(-probe.Process.Pid, syscall.SIGKILL) // It may have ended already.
	}
	if missing := missingForIDMap(); missing != nil {
		return missing
	}
	return fmt.Errorf("sharing directories as an ordinary user: unshare --map-root-user --map-auto: %w: %s%s",
		err, strings.TrimSpace(string(out)), chrootHint(h))
}

// chrootHint explains a refusal in a chroot, for which the kernel has no error of its
// own (user_namespaces(7)).
func chrootHint(h hostFacts) string {
	if h.rootIsMount {
		return ""
	}
	return " (in a chroot no ordinary user gets a namespace: enter it by pivot_root, as containers do, or be root)"
}

// missingForIDMap names a missing program or setting that the user can add, or returns
// nil.
func missingForIDMap() error {
	for _, p := range []struct{ program, pkg string }{{"unshare", "util-linux (2.38 or newer)"}, {"newuidmap", "uidmap"}} {
		if _, err := exec.LookPath(p.program); err != nil {
			return &MissingError{What: p.program, Fix: "install the Debian package " + p.pkg}
		}
	}
	u, err := user.Current()
	if err != nil {
		return err
	}
	for _, file := range []string{"/etc/subuid", "/etc/subgid"} {
		b, err := os.ReadFile(file)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if !hasRange(string(b), u.Username, u.Uid) {
			return missingRange(file, u.Username)
		}
	}
	return nil
}

func missingRange(file, name string) error {
	return &MissingError{
		What: "a range of ids for " + name + " in " + file,
		Fix:  "sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 " + name,
	}
}

// hasRange looks for a line of subuid(5): the user's name or number, first, count.
func hasRange(file, name, uid string) bool {
	for line := range strings.Lines(file) {
		if owner, _, ok := strings.Cut(line, ":"); ok && (owner == name || owner == uid) {
			return true
		}
	}
	return false
}

// lockedOptions returns the options of dir's mount that a read-only remount must
// repeat, because a user namespace may not drop them (mount_namespaces(7)).
func lockedOptions(dir string) ([]string, error) {
	// Of statfs(2); the syscall package lacks them.
	const stNosuid, stNodev, stNoexec = 2, 4, 8
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return nil, &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	var opts []string
	if st.Flags&stNosuid != 0 {
		opts = append(opts, "nosuid")
	}
	if st.Flags&stNodev != 0 {
		opts = append(opts, "nodev")
	}
	if st.Flags&stNoexec != 0 {
		opts = append(opts, "noexec")
	}
	return opts, nil
}

// groupOf returns the number of the group that owns a file.
func groupOf(info os.FileInfo) string {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	return strconv.FormatUint(uint64(st.Gid), 10)
}

// lockFile locks an open file. It refuses files of a file server: such a server has
// only one kind of lock, and would refuse QEMU because of ours.
func lockFile(f *os.File) error {
	var st syscall.Statfs_t
	if err := syscall.Fstatfs(int(f.Fd()), &st); err != nil {
		return &os.PathError{Op: "statfs", Path: f.Name(), Err: err}
	}
	// Of statfs(2); the syscall package lacks them.
	const nfs, cifs, smb2, ninep = 0x6969, 0xff534d42, 0xfe534d42, 0x01021997
	switch uint32(st.Type) {
	case nfs, cifs, smb2, ninep:
		return &UnfitError{fmt.Errorf("disk %s: it lies on a file server, where it cannot be locked", f.Name())}
	}
	return filelock.Take(f)
}

// FileID returns an identifier that changes when the file is changed or replaced; a
// copy has another one too.
func FileID(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "", fmt.Errorf("%s: no inode", path)
	}
	return fmt.Sprintf("%d:%d %d bytes %d.%09d %d.%09d", st.Dev, st.Ino, st.Size, st.Mtim.Sec, st.Mtim.Nsec, st.Ctim.Sec, st.Ctim.Nsec), nil
}

// writeWith writes a message to a Unix socket with a descriptor beside it (unix(7),
// SCM_RIGHTS).
func writeWith(conn net.Conn, message []byte, f *os.File) error {
	link, ok := conn.(*net.UnixConn)
	if !ok {
		return fmt.Errorf("%T passes no descriptors", conn)
	}
	_, _, err := link.WriteMsgUnix(message, syscall.UnixRights(int(f.Fd())), nil)
	return err
}
