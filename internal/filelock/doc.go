// Package filelock locks whole files between processes (flock(2)). A lock belongs to the
// open file: it ends when the file is closed, or with the last process that has it open.
// Byte ranges, which tell who holds them, are locked in internal/machines.
package filelock

import "errors"

// ErrHeld says that another open file holds the lock.
var ErrHeld = errors.New("locked by another process")
