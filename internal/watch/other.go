//go:build !linux

package watch

import "errors"

// New fails: only Linux has inotify(7).
func New(Options) (*Watcher, error) { return nil, errors.ErrUnsupported }

// A Watcher is never made here.
type Watcher struct{}
