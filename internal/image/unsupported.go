//go:build !unix

package image

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/agentd-go/agentd/internal/image/erofs"
)

// errNotUnix is the error of everything that needs a cache, and with it the owners,
// links and locks of Unix.
var errNotUnix = fmt.Errorf("kernels and images need a Unix host: %w", errors.ErrUnsupported)

func addTree(context.Context, *erofs.Writer, string) error { return errNotUnix }

// CopyTree is not supported here.
func CopyTree(string, string) error { return errNotUnix }

func newLock(string) (*os.File, error) { return nil, errNotUnix }

func tryLock(string) (*os.File, error) { return nil, errNotUnix }

func shareLock(string) (*os.File, error) { return nil, errNotUnix }

func allocated(info os.FileInfo) int64 { return info.Size() }
