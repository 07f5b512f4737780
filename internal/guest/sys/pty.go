package sys

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// OpenPTY opens a pseudo terminal of the given size. The master joins the
// poller; the slave is for a child. Neither is opened by a name that an image
// could plant: the slave comes from the master (TIOCGPTPEER, ioctl_tty(2)).
func OpenPTY(rows, cols uint16) (master, slave *os.File, err error) {
	fd, err := open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK)
	if err != nil {
		return nil, nil, err
	}
	master = os.NewFile(uintptr(fd), "pty master")
	slave, err = openPeer(fd, rows, cols)
	if err != nil {
		return nil, nil, errors.Join(err, master.Close())
	}
	return master, slave, nil
}

func openPeer(master int, rows, cols uint16) (*os.File, error) {
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		return nil, os.NewSyscallError("unlock pty", err)
	}
	if err := resize(master, rows, cols); err != nil {
		return nil, err
	}
	const peerFlags = unix.O_RDWR | unix.O_NOCTTY | unix.O_CLOEXEC
	fd, err := ioctlInt(master, unix.TIOCGPTPEER, peerFlags)
	if err != nil {
		return nil, os.NewSyscallError("open pty slave", err)
	}
	return os.NewFile(uintptr(fd), "pty slave"), nil
}

// Resize sets the window size; the kernel tells the foreground group (SIGWINCH).
func Resize(master *os.File, rows, cols uint16) error {
	raw, err := master.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = resize(int(fd), rows, cols) }); err != nil {
		return err
	}
	return failed
}

func resize(fd int, rows, cols uint16) error {
	size := unix.Winsize{Row: rows, Col: cols}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &size); err != nil {
		return fmt.Errorf("set terminal size %d×%d: %w", rows, cols, err)
	}
	return nil
}
