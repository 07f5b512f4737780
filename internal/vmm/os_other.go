//go:build !linux

package vmm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"
)

// errNotLinux is what Start returns elsewhere: virtiofsd and the way children
// die with their parent are Linux's.
var errNotLinux = fmt.Errorf("starting a machine needs a Linux host: %w", errors.ErrUnsupported)

func childAttr() *syscall.SysProcAttr { return nil }

func socketPair() (net.Conn, *os.File, error) { return nil, nil, errNotLinux }

func listening(string) (net.Conn, *os.File, error) { return nil, nil, errNotLinux }

func lifeline() (listener, client *os.File, err error) { return nil, nil, errNotLinux }

func readHost(context.Context) (hostFacts, error) { return hostFacts{}, errNotLinux }

func lockedOptions(string) ([]string, error) { return nil, errNotLinux }

func groupOf(os.FileInfo) string { return "" }

func lockFile(*os.File) error { return errNotLinux }

// Starved is 0: see Linux's.
func (v *VM) Starved() time.Duration { return 0 }

// FileID has no answer: see Linux's.
func FileID(string) (string, error) { return "", errNotLinux }

func writeWith(net.Conn, []byte, *os.File) error { return errNotLinux }
