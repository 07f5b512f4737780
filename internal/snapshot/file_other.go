//go:build !linux

package snapshot

import (
	"errors"
	"fmt"
	"os"
)

// errNotLinux is what making a state returns elsewhere, as starting a machine does.
var errNotLinux = fmt.Errorf("states of machines need a Linux host: %w", errors.ErrUnsupported)

func dig(*os.File, Kind) error { return errNotLinux }

func inodeOf(os.FileInfo) uint64 { return 0 }

func allocated(info os.FileInfo) int64 { return info.Size() }

func room(string) (int64, error) { return 0, errNotLinux }

func lockMaker(string) (*os.File, error) { return nil, errNotLinux }

func lockDir(string) (*os.File, error) { return nil, errNotLinux }

func claim(string) (*os.File, error) { return nil, errNotLinux }

func eachData(*os.File, func(start, end int64) error) error { return errNotLinux }

func digestDisk(*os.File) (size int64, digest string, err error) { return 0, "", errNotLinux }

// CopyDisk is not supported here.
func CopyDisk(string, string) error { return errNotLinux }

// LinkDisk is not supported here.
func LinkDisk(string, string) error { return errNotLinux }
