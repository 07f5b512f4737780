package vmm

import (
	"fmt"
	"os"
	"os/exec"
)

// Environment variables that name the programs to use.
const (
	EnvQEMU      = "AGENTCTL_QEMU" // For this host's architecture.
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

// FindQEMU returns the path of the QEMU for machines of an architecture: that of
// $AGENTCTL_QEMU_AMD64 or $AGENTCTL_QEMU_ARM64, for this host's architecture that of
// $AGENTCTL_QEMU, else qemu-system-x86_64 or qemu-system-aarch64 from $PATH. The error is
// a [MissingError] if there is none.
func FindQEMU(a Architecture) (string, error) {
	b, err := boardOf(a)
	if err != nil {
		return "", err
	}
	variable := b.variable
	if b.architecture == HostArchitecture && os.Getenv(variable) == "" {
		variable = EnvQEMU
	}
	missing := &MissingError{What: b.emulator, Fix: "install the Debian package " + b.debian + ", or set " + variable}
	if b.architecture != HostArchitecture {
		missing.What += ", which emulates machines for " + string(b.architecture) + ","
	}
	return find(variable, []string{b.emulator}, missing)
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
