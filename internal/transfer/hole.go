package transfer

import (
	"errors"
	"io"
	"os"
	"syscall"
)

// seekData is SEEK_DATA of lseek(2), which package io does not name.
const seekData = 3

// skipHole skips a hole at a file's position and returns its length. The protocol has
// no holes: a guest's file reads as zeros there.
func skipHole(from Reader, at int64) (int64, error) {
	f, ok := from.(*os.File)
	if !ok {
		return 0, nil
	}
	next, err := f.Seek(at, seekData)
	switch {
	case errors.Is(err, syscall.ENXIO): // A hole up to the end.
		end, err := f.Seek(0, io.SeekEnd)
		return max(0, end-at), err
	case err != nil: // The file system does not report holes.
		_, err = f.Seek(at, io.SeekStart)
		return 0, err
	}
	return next - at, nil
}
