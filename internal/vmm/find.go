package vmm

import (
	"fmt"
	"os"
	"os/exec"
)

// Environment variables that name the programs to use.
const (
	EnvQEMU      = "AGENTCTL_QEMU"
	EnvVirtiofsd = "AGENTCTL_VIRTIOFSD"
)

// A MissingError names a missing program or setting of the host that a machine needs,
// and how to add it.
type MissingError struct {
	What string // "virtiofsd"
	Fix  string // "install the Debian package …"
}

// Error implements error.
func (e *MissingError) Error() string { return e.What + " is missing: " + e.Fix }

// FindQEMU returns the path of qemu-system-x86_64: $AGENTCTL_QEMU, else from $PATH. The
// error is a [MissingError] if there is none.
func FindQEMU() (string, error) {
	return find(EnvQEMU, []string{"qemu-system-x86_64"}, &MissingError{
		What: "qemu-system-x86_64",
		Fix:  "install the Debian package qemu-system-x86, or set " + EnvQEMU,
	})
}

// FindVirtiofsd returns the path of virtiofsd: $AGENTCTL_VIRTIOFSD, else from the
// directories outside $PATH in which distributions install it. The error is a
// [MissingError] if there is none.
func FindVirtiofsd() (string, error) {
	places := []string{"/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd", "/usr/lib/virtiofsd", "virtiofsd"}
	return find(EnvVirtiofsd, places, &MissingError{
		What: "virtiofsd",
		Fix: "install the Debian package virtiofsd (since Debian 13, Ubuntu 24.04) or " +
			"qemu-system-common (Debian 12), or set " + EnvVirtiofsd,
	})
}

// find uses the environment variable if it is set, and does not look elsewhere if it is
// wrong.
func find(env string, names []string, missing error) (string, error) {
	if path := os.Getenv(env); path != "" {
		found, err := exec.LookPath(path)
		if err != nil {
			return "", fmt.Errorf("%s: %w", env, err)
		}
		return found, nil
	}
	for _, name := range names {
		if found, err := exec.LookPath(name); err == nil {
			return found, nil
		}
	}
	return "", missing
}
