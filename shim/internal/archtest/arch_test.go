// Package archtest holds the imports of this module to a table, and the root module
// to its own dependencies.
package archtest

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const (
	module = "github.com/agentd-go/agentd/shim"
	root   = "github.com/agentd-go/agentd"
)

// may is the whole map: each package of this module, and the packages of ours, here
// and in the root module, that it may import. Of the root module only public ones:
// what the shim needs, others need too.
var may = map[string][]string{
	"":                              {},
	"internal/pact":                 {},
	"internal/options":              {},
	"internal/raw":                  {},
	"internal/cri":                  {"internal/raw"},
	"internal/stream":               {},
	"internal/plan":                 {"internal/pact"},
	"internal/host":                 {"internal/pact", "internal/plan", "internal/procfs", "sandbox"},
	"internal/pod":                  {"internal/cri", "internal/host", "internal/options", "internal/pact", "internal/plan", "internal/stream", "client", "sandbox"},
	"internal/service":              {"internal/cri", "internal/plan", "internal/pod", "internal/raw", "internal/stream"},
	"internal/life":                 {"internal/host", "internal/options", "internal/pod", "internal/service"},
	"internal/guest":                {"internal/pact"},
	"internal/archtest":             {},
	"internal/trial":                {},
	"internal/trial/registry":       {},
	"internal/trial/liar":           {"wire", "wire/frame"},
	"cmd/agentd-pod":                {"internal/guest", "internal/pact"},
	"cmd/containerd-shim-agentd-v2": {"internal/life"},
}

func list(t *testing.T, dir, format string, args ...string) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list", "-f", format}, args...)...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=1")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

func TestImports(t *testing.T) {
	seen := map[string]bool{}
	for _, line := range list(t, "../..", `{{.ImportPath}} {{join .Imports " "}}`, "./...") {
		words := strings.Fields(line)
		name := strings.TrimPrefix(strings.TrimPrefix(words[0], module), "/")
		seen[name] = true
		allowed, ok := may[name]
		if !ok {
			t.Errorf("%s is not in the map", name)
		}
		for _, i := range words[1:] {
			own, ours := strings.CutPrefix(i, module+"/")
			if !ours {
				own, ours = strings.CutPrefix(i, root+"/")
			}
			if ours && !slices.Contains(allowed, own) {
				t.Errorf("%q must not import %s", name, own)
			}
		}
	}
	for name := range may {
		if !seen[name] {
			t.Errorf("%q is in the map and not in the tree", name)
		}
	}
}

// The programs of the root module take nothing of what the shim needs.
func TestRootGrowsByNothing(t *testing.T) {
	for _, bad := range list(t, "../../..", "{{.ImportPath}}", "-deps", "./cmd/...") {
		for _, of := range []string{"github.com/containerd/", "github.com/opencontainers/runc", "google.golang.org/", "github.com/vishvananda/", module} {
			if strings.HasPrefix(bad, of) {
				t.Errorf("agentctl or agentd links %s", bad)
			}
		}
	}
}

// The shim is small at rest: it links no HTTP and no gRPC.
func TestShimLinksNoServer(t *testing.T) {
	for _, p := range list(t, "../..", "{{.ImportPath}}", "-deps", "./cmd/containerd-shim-agentd-v2") {
		if p == "google.golang.org/grpc" || p == "github.com/opencontainers/runc/libcontainer" {
			t.Errorf("the shim links %s", p)
		}
	}
}

// The shim boots machines of its host's architecture, and contains no agent of another.
func TestShimContainsOneAgent(t *testing.T) {
	got := list(t, "../..", "{{.EmbedPatterns}}", "-e", "-tags", "embed_agentd", root+"/sandbox")
	if !slices.Equal(got, []string{"[agentd]"}) {
		t.Errorf("embedded are %v", got)
	}
}
