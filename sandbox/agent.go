package sandbox

import (
	"context"
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

	"github.com/agentd-go/agentd/internal/image"
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

// AgentVariable is the environment variable with the path of the guest's binary. It
// overrides all other sources.
const AgentVariable = "AGENTCTL_AGENTD"

// FindAgent returns the guest's binary: the file that AGENTCTL_AGENTD names, or the one
// built into this program, or the file agentd in this program's directory. Otherwise
// the Go tool builds it from this program's version of this module. That takes some ten
// seconds, once: the cache keeps the binary by version, toolchain and processor. A
// program that was built in a checkout has no such version.
func FindAgent() ([]byte, error) {
	if path := os.Getenv(AgentVariable); path != "" {
		return os.ReadFile(path) //nolint:gosec // The user names the file.
	}
	if len(embedded) > 0 {
		return embedded, nil
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	beside := filepath.Join(filepath.Dir(self), agentName)
	b, err := os.ReadFile(beside)
	if !errors.Is(err, fs.ErrNotExist) {
		return b, err
	}
	if b, err = builtAgent(); err != nil {
		return nil, fmt.Errorf("no guest agent: none is built in, %s names none, there is no %s, and %w; "+
			"run 'make build' in a checkout of %s and set %s to its bin/agentd", AgentVariable, beside, err, modulePath, AgentVariable)
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

func builtAgent() ([]byte, error) {
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
		return from.buildThere(ctx)
	}
	dir, err := cache.Dir(agentsKind, from.key(info.GoVersion), func(dir string) error { return from.build(ctx, dir, info.GoVersion) })
	if err != nil {
		return nil, err
	}
	return os.ReadFile(filepath.Join(dir, agentName))
}

// key returns a cache key of everything that determines the binary.
func (o origin) key(toolchain string) string {
	return strings.NewReplacer("/", "_", " ", "_", "+", "_").Replace(o.version + "-" + toolchain + "-" + runtime.GOARCH)
}

// build makes the Go tool build the agent like a release: from the same files, with the
// same toolchain and without paths of this host. So the binary is the same.
func (o origin) build(ctx context.Context, dir, toolchain string) error {
	cmd := goTool(ctx, "install", "-trimpath", "-ldflags=-s -w", modulePath+"/cmd/agentd@"+o.version)
	cmd.Dir = dir // Outside any module.
	cmd.Env = append(cmd.Env, "GOBIN="+dir, "GOTOOLCHAIN="+toolchain+"+auto")
	return runTool(cmd)
}

// buildThere builds the agent of a module that a directory replaces. The files may
// change, so only the Go tool's own cache keeps the result.
func (o origin) buildThere(ctx context.Context) (b []byte, err error) {
	dir, err := os.MkdirTemp("", "agentd-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	program := filepath.Join(dir, agentName)
	cmd := goTool(ctx, "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", program, "./cmd/agentd")
	cmd.Dir = o.dir
	if err := runTool(cmd); err != nil {
		return nil, err
	}
	return os.ReadFile(program)
}

// goTool returns a command of the Go tool. It keeps the user's settings for proxies and
// checksums, and removes variables that would change the built program.
func goTool(ctx context.Context, words ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", words...)
	cmd.Env = append(os.Environ(), "GOFLAGS=", "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+runtime.GOARCH, "GOWORK=off")
	return cmd
}

func runTool(cmd *exec.Cmd) error {
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
