package guest

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/agentd-go/agentd/shim/internal/pact"
)

// shmBytes is the /dev/shm that runtimes give.
const shmBytes = 64 << 20

// setUp makes what all containers share.
func setUp(start pact.Start) error {
	for _, dir := range []string{pact.Run, stateDir, pact.Shm, pact.Volumes} {
		if err := os.MkdirAll(dir, 0o711); err != nil { //nolint:gosec // The containers' users pass them.
			return err
		}
	}
	size := start.ShmBytes
	if size <= 0 {
		size = shmBytes
	}
	const flags = unix.MS_NOSUID | unix.MS_NODEV
	if err := unix.Mount("shm", pact.Shm, "tmpfs", flags|unix.MS_NOEXEC, fmt.Sprintf("mode=1777,size=%d", size)); err != nil {
		return fmt.Errorf("mount %s: %w", pact.Shm, err)
	}
	if err := unix.Mount(pact.VolumesTag, pact.Volumes, "virtiofs", 0, ""); err != nil {
		return fmt.Errorf("mount the volumes: %w", err)
	}
	// A volume's mount on the host appears here later, and shall in the containers.
	if err := unix.Mount("", pact.Volumes, "", unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("share the volumes: %w", err)
	}
	return makeNetwork(start)
}

// makeNetwork makes the containers' network namespace and sets it up.
func makeNetwork(start pact.Start) error {
	failed := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // For ever: the thread ends in the namespace.
		failed <- errorOf(
			func() error { return unix.Unshare(unix.CLONE_NEWNET) },
			func() error { return keepNamespace(pact.Net) },
			func() error { return writeSysctls(start.Sysctls) },
		)
	}()
	if err := <-failed; err != nil {
		return fmt.Errorf("make the network namespace: %w", err)
	}
	return configure(start.Network)
}

// errorOf runs the steps up to the first that fails.
func errorOf(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// keepNamespace binds the thread's network namespace to a name, which keeps it.
func keepNamespace(name string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return unix.Mount(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()), name, "", unix.MS_BIND, "")
}

// writeSysctls sets those of the network; others are the containers' own.
func writeSysctls(values map[string]string) error {
	for name, value := range values {
		if !strings.HasPrefix(sysctlFile(name), "net/") {
			continue
		}
		if err := writeSysctl(name, value); err != nil {
			return err
		}
	}
	return nil
}

func writeSysctl(name, value string) error {
	file := sysctlFile(name)
	if !filepath.IsLocal(file) {
		return fmt.Errorf("sysctl %s: want a name such as net.core.somaxconn", name)
	}
	if err := os.WriteFile(filepath.Join("/proc/sys", file), []byte(value), 0o644); err != nil { //nolint:gosec // A file of the kernel.
		return fmt.Errorf("sysctl %s=%s: %w", name, value, err)
	}
	return nil
}

// sysctlFile is a sysctl's name below /proc/sys. A name whose first separator is a
// slash may have dots in its parts, of an interface for example; in one with dots a
// slash stands for such a dot (sysctl.d(5)).
func sysctlFile(name string) string {
	if i := strings.IndexAny(name, "./"); i < 0 || name[i] == '/' {
		return name
	}
	return strings.NewReplacer(".", "/", "/", ".").Replace(name)
}
