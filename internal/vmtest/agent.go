package vmtest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/agentd-go/agentd/internal/image"
	"github.com/agentd-go/agentd/internal/reference"
	"github.com/agentd-go/agentd/sandbox"
)

const (
	// ours names a guest binary to test instead of one built from the tree.
	ours = "AGENTD_AGENT"
	// theirs names a published version to test instead of ours.
	theirs = "AGENTD_CONFORMANCE"
	// unpacked names a directory of unpacked packages, DIR/VERSION/package.
	unpacked = "AGENTD_REFERENCE"
)

// Version returns the published version under test, "" for our own agent.
func Version() string { return os.Getenv(theirs) }

// Agent returns the path of the guest binary under test. Our own is built once
// for all tests of the process.
func Agent(t *testing.T) string {
	t.Helper()
	path, err := agent()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// AgentFor returns the path of our agent for machines of an architecture, by Go's name.
func AgentFor(t *testing.T, architecture string) string {
	t.Helper()
	path, err := buildFor(architecture, "agentd-"+architecture, "cmd/agentd")
	if err != nil {
		t.Fatal(err)
	}
	return path
}

var agent = sync.OnceValues(func() (string, error) {
	if Version() != "" {
		return extract(Version())
	}
	if path := os.Getenv(ours); path != "" {
		return path, nil
	}
	return buildProgram("agentd", "cmd/agentd") // As a release is made.
})

// extract takes the agent out of a published package.
func extract(version string) (string, error) {
	release, err := release(version)
	if err != nil {
		return "", err
	}
	b, err := reference.ExtractAgent(release.Program)
	if err != nil {
		return "", err
	}
	path := filepath.Join(os.TempDir(), "agentd-"+version)
	const executable = 0o755
	return path, os.WriteFile(path, b, executable)
}

func release(version string) (reference.Release, error) {
	if dir := os.Getenv(unpacked); dir != "" {
		return reference.OpenRelease(version, filepath.Join(dir, version+suffix(), "package"))
	}
	cache, err := image.Open("")
	if err != nil {
		return reference.Release{}, err
	}
	return reference.Fetch(context.Background(), cache, architecture(), version)
}

// A Combination is one way to boot the agent under test.
type Combination struct {
	Kernel        string
	Configuration sandbox.Configuration
}

// String names a combination in the names of tests.
func (c Combination) String() string {
	if c.Configuration == sandbox.ByEnvironment {
		return c.Kernel + "/environment"
	}
	return c.Kernel + "/bootstrap"
}

// Config returns cfg for this combination.
func (c Combination) Config(cfg sandbox.Config) sandbox.Config {
	cfg.Kernel, cfg.Configuration = c.Kernel, c.Configuration
	return cfg
}

// Combinations returns all ways to boot the agent under test: ours on each
// kernel, told in both ways; a published one on the kernel and in the way of its
// own host.
func Combinations(t *testing.T) (all []Combination) {
	t.Helper()
	ways := []sandbox.Configuration{sandbox.ByEnvironment, sandbox.ByBootstrap}
	switch Version() {
	case "":
	case "0.5.5", "0.6.8":
		ways = ways[:1]
	case "0.6.14", "0.7.2":
		ways = ways[1:]
	default:
		t.Fatal(errors.New(theirs + "=" + Version() + ": want 0.5.5, 0.6.8, 0.6.14 or 0.7.2"))
	}
	for _, kernel := range Kernels(t) {
		if Version() != "" && !fromLibrary(sandbox.Kernel{Name: kernel}) {
			continue
		}
		for _, way := range ways {
			all = append(all, Combination{kernel, way})
		}
	}
	return all
}
