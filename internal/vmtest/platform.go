package vmtest

import (
	"cmp"
	"os"
	"runtime"
	"strings"

	"github.com/agentd-go/agentd/sandbox"
)

// platformVariable names the platform of all machines of tests, such as linux/arm64, and
// of the programs in them. Without it they are this host's.
const platformVariable = "AGENTD_PLATFORM"

// Platform returns the platform of the machines of tests.
func Platform() string { return cmp.Or(os.Getenv(platformVariable), sandbox.HostPlatform) }

// architecture returns Go's name of the machines' processors.
func architecture() string { return strings.TrimPrefix(Platform(), "linux/") }

// suffix tells the files for machines of another platform than this host's apart.
func suffix() string {
	if architecture() == runtime.GOARCH {
		return ""
	}
	return "-" + architecture()
}

// GoEnvironment returns the environment in which the Go tool builds programs for the
// machines.
func GoEnvironment() []string { return environment(architecture()) }

func environment(architecture string) []string {
	return append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+architecture)
}
