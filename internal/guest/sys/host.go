package sys

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Hostname returns the machine's name.
func Hostname() (string, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", os.NewSyscallError("uname", err)
	}
	return unix.ByteSliceToString(u.Nodename[:]), nil
}

// SetHostname sets the machine's name, of at most 64 bytes (sethostname(2)).
func SetHostname(name string) error {
	if err := unix.Sethostname([]byte(name)); err != nil {
		return fmt.Errorf("set host name %q: %w", name, err)
	}
	return nil
}

// ErrNoIPv6 is returned by LoopbackUp if the kernel has no IPv6.
var ErrNoIPv6 = errors.New("the kernel has no IPv6")

// LoopbackUp brings the interface lo up. The kernel then gives it 127.0.0.1/8 and ::1/128
// (net/ipv4/devinet.c, net/ipv6/addrconf.c). If the kernel has no IPv6, or has disabled it,
// the error is ErrNoIPv6, and lo is up nevertheless.
func LoopbackUp() error {
	// Any socket will do. One of this family shows whether the kernel has IPv6
	// (net/ipv6/af_inet6.c).
	without := error(nil)
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if errors.Is(err, unix.EAFNOSUPPORT) {
		without = ErrNoIPv6
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	}
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer func() { _ = unix.Close(fd) }()
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	// It has no other flag that one can choose (dev_change_flags, net/core/dev.c).
	ifr.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr); err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	return without
}

// LoadModule loads a kernel module with its parameters. A module that is loaded already is
// no error.
func LoadModule(f *os.File, parameters string) error {
	err := unix.FinitModule(int(f.Fd()), parameters, 0)
	if err != nil && err != unix.EEXIST {
		return fmt.Errorf("load module %s: %w", f.Name(), err)
	}
	return nil
}

// Sync syncs all file systems to their disks and waits for them.
func Sync() { unix.Sync() }

// Random fills b with random bytes. It waits until the kernel's generator is ready.
func Random(b []byte) error {
	_, err := retry(func() (int, error) { return unix.Getrandom(b, 0) }) // Up to 256 bytes are never cut short.
	return os.NewSyscallError("getrandom", err)
}

// Restart ends the machine. It returns only if the kernel refuses; Sync comes
// before. Without ACPI a power-off would only halt the processor.
func Restart() error { return os.NewSyscallError("reboot", unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)) }
