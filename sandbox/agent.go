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

	// agentsKind is where the cache keeps agents that were built here.
	agentsKind = "agents"

	// buildDeadline is for one that downloads the module and a toolchain first: a minute
	// at most on a slow line, and as much for two loaded cores.
	buildDeadline = 5 * time.Minute
)

// AgentVariable names the guest binary to use, over any other.
const AgentVariable = "AGENTCTL_AGENTD"

// FindAgent returns the guest's binary: the file that AGENTCTL_AGENTD names, the
// one built into this program, agentd beside it, or one that the Go tool builds of
// the version of this module that this program has. That is done once and takes some
// ten seconds: the cache keeps it by version, toolchain and processor. A program that
// was built in a checkout has no such version.
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

// An origin is where this program's copy of the module came from.
type origin struct {
	version string // As the Go tool downloads it.
	dir     string // Of a module that was replaced by a directory.
}

// originOf finds the module in the record that the Go tool leaves in a program.
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

// key is all that decides what is built.
func (o origin) key(toolchain string) string {
	return strings.NewReplacer("/", "_", " ", "_", "+", "_").Replace(o.version + "-" + toolchain + "-" + runtime.GOARCH)
}

// build has the Go tool make the agent as the release does: of the same files, by the
// same toolchain and without paths of this host, so that the binary is the same.
func (o origin) build(ctx context.Context, dir, toolchain string) error {
	cmd := goTool(ctx, "install", "-trimpath", "-ldflags=-s -w", modulePath+"/cmd/agentd@"+o.version)
	cmd.Dir = dir // Outside of any module.
	cmd.Env = append(cmd.Env, "GOBIN="+dir, "GOTOOLCHAIN="+toolchain+"+auto")
	return runTool(cmd)
}

// buildThere is for a module that a directory replaces. Its files may change, so
// nothing but the Go tool's own cache keeps what is built.
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

// goTool leaves what the user's environment says of proxies and sums, and takes away
// what would build another program than the guest's.
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
