//go:build !linux

package machines

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
)

// errNotLinux is the error of machines that stay: their locks exist only on Linux.
var errNotLinux = fmt.Errorf("machines need a Linux host: %w", errors.ErrUnsupported)

func take(string) (*os.File, error) { return nil, errNotLinux }

func held(string) (bool, error) { return false, nil }

func awaitEnd(context.Context, string) ([]byte, error) { return nil, errNotLinux }

func exclusively(string, func() error) error { return errNotLinux }

func ownSession() *syscall.SysProcAttr { return nil }

func closeOnExec(int) {}

func kill(int) {}
