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

// errNotLinux is Start's error on other systems: virtiofsd and Pdeathsig exist only on
// Linux.
var errNotLinux = fmt.Errorf("starting a machine needs a Linux host: %w", errors.ErrUnsupported)

func childAttr() *syscall.SysProcAttr { return nil }

func socketPair() (net.Conn, *os.File, error) { return nil, nil, errNotLinux }

func duplicate(*os.File) (*os.File, error) { return nil, errNotLinux }

func listening(string) (net.Conn, *os.File, error) { return nil, nil, errNotLinux }

func lifeline() (listener, client *os.File, err error) { return nil, nil, errNotLinux }

func readHost(context.Context) (hostFacts, error) { return hostFacts{}, errNotLinux }

func lockedOptions(string) ([]string, error) { return nil, errNotLinux }

func groupOf(os.FileInfo) string { return "" }

func lockFile(*os.File) error { return errNotLinux }

// Starved returns 0; only Linux has the figure.
func (v *VM) Starved() time.Duration { return 0 }

// FileID is not supported here.
func FileID(string) (string, error) { return "", errNotLinux }

func ownSession() *syscall.SysProcAttr { return nil }

func outlet(string) (*os.File, error) { return nil, errNotLinux }

func (p *process) drain(string) error { return errNotLinux }

func adoptProcess(string, ProcessID, string, chan struct{}) (*process, error) {
	return nil, errNotLinux
}

func (p *process) signalHandle(syscall.Signal) {}

func writeWith(net.Conn, []byte, *os.File) error { return errNotLinux }
