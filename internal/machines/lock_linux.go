package machines

import (
	"context"
	"errors"
	"io"
	"os"
	"syscall"
)

// Commands of fcntl(2) for locks of open file descriptions, which package syscall
// does not name.
const (
	ofdGet  = 36
	ofdSet  = 37
	ofdWait = 38
)

// The bytes of a life file; see the package comment.
const (
	lifeByte = 0
	endByte  = 1
)

// lockByte calls fcntl(2) for a lock on one byte. With ofdWait it waits for the lock.
func lockByte(f *os.File, command int, kind int16, at int64) (syscall.Flock_t, error) {
	for {
		l := syscall.Flock_t{Type: kind, Whence: io.SeekStart, Start: at, Len: 1}
		err := syscall.FcntlFlock(f.Fd(), command, &l)
		if !errors.Is(err, syscall.EINTR) {
			return l, os.NewSyscallError("fcntl", err)
		}
	}
}

func openLock(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
}

// take locks a life for the caller, or fails with ErrRunning. Closing the file ends the
// life.
func take(path string) (*os.File, error) {
	f, err := openLock(path)
	if err != nil {
		return nil, err
	}
	if _, err = lockByte(f, ofdSet, syscall.F_WRLCK, lifeByte); err == nil {
		// Waiters that have just seen the last life end may hold it for a moment.
		_, err = lockByte(f, ofdWait, syscall.F_WRLCK, endByte)
	} else if errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EACCES) {
		err = ErrRunning
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// held reports whether a life has a holder, without taking its lock.
func held(path string) (bool, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	l, err := lockByte(f, ofdGet, syscall.F_WRLCK, lifeByte)
	return l.Type != syscall.F_UNLCK, errors.Join(err, f.Close())
}

// awaitEnd waits until a life has no holder, and returns the final content of its file,
// which may be removed meanwhile. If ctx ends first, one blocked thread stays until the
// end of the life or of this program.
func awaitEnd(ctx context.Context, path string) (last []byte, err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil // It has never been started.
	}
	if err != nil {
		return nil, err
	}
	type end struct {
		last []byte
		err  error
	}
	ended := make(chan end, 1)
	go func() {
		_, err := lockByte(f, ofdWait, syscall.F_RDLCK, endByte)
		last, failed := io.ReadAll(f)
		ended <- end{last, errors.Join(err, failed, f.Close())}
	}()
	select {
	case e := <-ended:
		return e.last, e.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// exclusively calls f while it holds the lock of the file at path.
func exclusively(path string, f func() error) (err error) {
	lock, err := openLock(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if _, err := lockByte(lock, ofdWait, syscall.F_WRLCK, lifeByte); err != nil {
		return err
	}
	return f()
}
