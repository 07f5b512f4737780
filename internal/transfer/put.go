package transfer

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"time"
)

// defaultFile is the default permission of a new file.
const defaultFile = 0o644

// Put copies from to a file, which gets its name only when it is complete. An existing file
// keeps its permissions unless mode is set. A link is followed. A device or pipe gets the
// bytes as they come.
func Put(ctx context.Context, to End, from io.Reader, mode *fs.FileMode) error {
	info, err := to.Side.Stat(ctx, to.Name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	perm, old := fs.FileMode(defaultFile), fs.FileInfo(nil)
	switch {
	case err != nil:
	case info.IsDir():
		return &OverwriteError{to.Name, fs.ModeDir, 0}
	case !info.Mode().IsRegular():
		return pour(ctx, to, from)
	default:
		perm, old = info.Mode(), info
		if to.Name, err = to.Side.RealPath(ctx, to.Name); err != nil {
			return err
		}
	}
	if mode != nil {
		perm = *mode
	}
	return putFile(ctx, to, from, perm, old)
}

// pour writes to an existing device or pipe.
func pour(ctx context.Context, to End, from io.Reader) error {
	w, err := to.Side.Through(ctx, to.Name)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, from)
	return errors.Join(err, w.Close())
}

func putFile(ctx context.Context, to End, from io.Reader, perm fs.FileMode, old fs.FileInfo) (err error) {
	target := to.Side.Below(to.Side.Dir(to.Name))
	defer func() { err = errors.Join(err, target.Close()) }()
	f, err := target.Create(ctx, to.Side.Base(to.Name))
	if err != nil {
		return err
	}
	if _, err = io.Copy(f, from); err == nil && old != nil {
		err = f.Own(old)
	}
	if err == nil {
		err = f.Describe(perm, time.Now())
	}
	if err != nil {
		return errors.Join(named(err, to.Name), f.Abort())
	}
	if err := f.Commit(); err != nil {
		return err
	}
	return target.Settle(ctx)
}
