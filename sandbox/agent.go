package sandbox

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/agentd-go/agentd/internal/image"
	"github.com/agentd-go/agentd/internal/vmm"
)

const (
	modulePath = "github.com/agentd-go/agentd"
	agentName  = "agentd"

	// agentsKind is the cache's directory of agents that were built here.
	agentsKind = "agents"

	// buildDeadline allows for a build that first downloads the module and a toolchain:
	// a minute on a slow network, and as much again on two loaded cores.
	buildDeadline = 5 * time.Minute
)

// AgentVariable is the environment variable with the path of the guest's binary for this
// host's architecture. It overrides all other sources. The variable for another
// architecture has its name appended: AGENTCTL_AGENTD_ARM64.
const AgentVariable = "AGENTCTL_AGENTD"

// FindAgent is [FindAgentFor] with [HostPlatform].
func FindAgent() ([]byte, error) { return findOwn(vmm.HostArchitecture) }

// FindAgentFor returns the guest's binary for a platform, OS/ARCHITECTURE: the file that
// AGENTCTL_AGENTD names, or the one built into this program, or the file agentd in this
// program's directory (agentd-ARCHITECTURE for another than this host's). Otherwise the
// Go tool builds it from this program's version of this module. That takes some ten
// seconds, once: the cache keeps the binary by version, toolchain and processor. A
// program that was built in a checkout has no such version.
func FindAgentFor(platform string) ([]byte, error) {
	a, err := architectureOf(platform)
	if err != nil {
		return nil, err
	}
	return findOwn(a)
}

// findOwn returns bytes that the caller may change.
func findOwn(a vmm.Architecture) ([]byte, error) {
	b, err := findAgent(a)
	return bytes.Clone(b), err
}

// findAgent returns bytes that nobody may write to: they can be this program's.
func findAgent(a vmm.Architecture) ([]byte, error) {
	variable, name := AgentVariable, agentName
	if a != vmm.HostArchitecture {
		variable, name = AgentVariable+"_"+strings.ToUpper(string(a)), agentName+"-"+string(a)
	}
	if path := os.Getenv(variable); path != "" {
		return os.ReadFile(path) //nolint:gosec // The user names the file.
	}
	if b, err := builtIn(a); len(b) > 0 || err != nil {
		return b, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	beside := filepath.Join(filepath.Dir(self), name)
	b, err := os.ReadFile(beside)
	if !errors.Is(err, fs.ErrNotExist) {
		return b, err
	}
	if b, err = builtAgent(string(a)); err != nil {
		return nil, fmt.Errorf("no guest agent: none is built in, %s names none, there is no %s, and %w; "+
			"run 'make build' in a checkout of %s and set %s to its bin/%s", variable, beside, err, modulePath, variable, name)
	}
	return b, nil
}

// An origin is the source of this program's copy of the module.
type origin struct {
	version string // The version for the Go tool.
	dir     string // The directory that replaces the module, or "".
}

// originOf finds the module in a program's build information.
func originOf(info *debug.BuildInfo) (origin, error) {
	m := &info.Main
	for _, dep := range info.Deps {
		if dep.Path == modulePath {
			m = dep
		}
	}
	if m.Path != modulePath {
		return origin{}, errors.New("this program does not say which version of " + modulePath + " it has")
	}
	if m.Replace != nil {
		m = m.Replace
	}
	switch {
	case m.Version == "" && filepath.IsAbs(m.Path):
		return origin{dir: m.Path}, nil
	case m.Path != modulePath, m.Version == "", m.Version == "(devel)", strings.HasSuffix(m.Version, "+dirty"):
		return origin{}, fmt.Errorf("this program has no published version of %s (%s %s)", modulePath, m.Path, m.Version)
	}
	return origin{version: m.Version}, nil
}

func builtAgent(architecture string) ([]byte, error) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return nil, errors.New("this program was built without modules")
	}
	from, err := originOf(info)
	if err != nil {
		return nil, err
	}
	cache, err := image.Open("")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), buildDeadline)
	defer cancel()
	if from.dir != "" {
		return from.buildThere(ctx, architecture)
	}
	dir, err := cache.Dir(agentsKind, from.key(info.GoVersion, architecture), func(dir string) error { return from.build(ctx, dir, info.GoVersion, architecture) })
	if err != nil {
		return nil, err
	}
	return os.ReadFile(filepath.Join(dir, agentName))
}

// key returns a cache key of everything that determines the binary.
func (o origin) key(toolchain, architecture string) string {
	return strings.NewReplacer("/", "_", " ", "_", "+", "_").Replace(o.version + "-" + toolchain + "-" + architecture)
}

// build makes the Go tool build the agent like a release: from the same files, with the
// same toolchain and without paths of this host. So the binary is the same.
func (o origin) build(ctx context.Context, dir, toolchain, architecture string) error {
	cmd := goTool(ctx, architecture, "install", "-trimpath", "-ldflags=-s -w", modulePath+"/cmd/agentd@"+o.version)
	cmd.Dir = dir // Outside any module.
	cmd.Env = append(cmd.Env, "GOTOOLCHAIN="+toolchain+"+auto")
	if architecture == runtime.GOARCH {
		cmd.Env = append(cmd.Env, "GOBIN="+dir)
		return runTool(cmd)
	}
	// The Go tool installs programs of other architectures beneath GOPATH only.
	return o.installForeign(cmd, dir, architecture)
}

// installForeign runs the command with a GOPATH of its own, and keeps the program.
func (o origin) installForeign(cmd *exec.Cmd, dir, architecture string) error {
	cache, err := goTool(context.Background(), architecture, "env", "GOMODCACHE").Output()
	if err != nil {
		return fmt.Errorf("go env GOMODCACHE: %w", err)
	}
	path, err := os.MkdirTemp(dir, "gopath-")
	if err != nil {
		return err
	}
	cmd.Env = append(cmd.Env, "GOPATH="+path, "GOBIN=", "GOMODCACHE="+strings.TrimSpace(string(cache)))
	if err := runTool(cmd); err != nil {
		return err
	}
	made := filepath.Join(path, "bin", "linux_"+architecture, agentName)
	return errors.Join(os.Rename(made, filepath.Join(dir, agentName)), os.RemoveAll(path))
}

// buildThere builds the agent of a module that a directory replaces. The files may
// change, so only the Go tool's own cache keeps the result.
func (o origin) buildThere(ctx context.Context, architecture string) (b []byte, err error) {
	dir, err := os.MkdirTemp("", "agentd-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	program := filepath.Join(dir, agentName)
	cmd := goTool(ctx, architecture, "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", program, "./cmd/agentd")
	cmd.Dir = o.dir
	if err := runTool(cmd); err != nil {
		return nil, err
	}
	return os.ReadFile(program)
}

// goTool returns a command of the Go tool. It keeps the user's settings for proxies and
// checksums, and removes variables that would change the built program.
func goTool(ctx context.Context, architecture string, words ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", words...)
	cmd.Env = append(os.Environ(), "GOFLAGS=", "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+architecture, "GOWORK=off")
	return cmd
}

func runTool(cmd *exec.Cmd) error {
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// agent returns the guest's binary of the configuration.
func (c Config) agent() (b []byte, err error) {
	a := c.architecture()
	if c.Agent == "" {
		b, err = findAgent(a)
	} else {
		b, err = os.ReadFile(c.Agent)
	}
	if err == nil {
		err = checkProgram(b, a)
	}
	if err != nil {
		return nil, fmt.Errorf("guest agent: %w", err)
	}
	return b, nil
}

// programs are the machines of programs for an architecture.
var programs = map[vmm.Architecture]elf.Machine{vmm.AMD64: elf.EM_X86_64, vmm.ARM64: elf.EM_AARCH64}

// checkProgram refuses a program for another architecture, which a kernel could not start.
// A file that is no ELF program is the caller's own matter.
func checkProgram(b []byte, a vmm.Architecture) error {
	f, err := elf.NewFile(bytes.NewReader(b))
	if err != nil || f.Machine == programs[a] {
		return nil //nolint:nilerr // Such as a script.
	}
	return fmt.Errorf("a program for %v: the machine is for %s", f.Machine, a)
}

// builtIn returns the guest's binary that this program contains; none if it contains
// none. Nobody may write to it.
func builtIn(a vmm.Architecture) ([]byte, error) {
	switch {
	case a == vmm.HostArchitecture:
		return bytesOf(embedded), nil
	case len(embeddedForeign) == 0:
		return nil, nil
	}
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.DecodeAll(bytesOf(embeddedForeign), nil)
}
