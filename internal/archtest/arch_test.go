// Package archtest keeps ARCHITECTURE.md true: it fails when a package imports
// one of ours that its row does not name, or links what it must not.
package archtest

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/agentd-go/agentd"

// may is the whole map: each package, and the packages of ours that it may
// import. A package that is not here fails the test, so a new one is a decision.
// Imports of test files are not judged.
var may = map[string][]string{
	"wire/frame":                   {},
	"wire":                         {"wire/frame"},
	"wire/bootenv":                 {"wire"},
	"client":                       {"wire", "wire/frame", "internal/mux", "internal/flow"},
	"sandbox":                      {"wire", "wire/bootenv", "wire/frame", "client", "internal/hooks", "internal/relay", "internal/vmm", "internal/snapshot", "internal/image", "internal/image/ext4", "internal/guest/plan"},
	"internal/hooks":               {"wire"},
	"internal/mux":                 {"wire/frame"},
	"internal/flow":                {"wire", "wire/frame"}, // Moves nothing by itself.
	"internal/ring":                {"internal/mux"},
	"internal/relay":               {"wire/frame", "internal/mux"}, // Cannot decode.
	"internal/guest/plan":          {"wire", "wire/bootenv"},
	"internal/guest/sys":           {"internal/procfs"},
	"internal/guest/boot":          {"wire/bootenv", "internal/guest/plan", "internal/guest/sys"},
	"internal/guest/proc":          {"internal/guest/sys"},
	"internal/guest/session":       {"wire", "wire/frame", "internal/mux", "internal/flow", "internal/guest/sys"},
	"internal/guest/session/exec":  {"wire", "internal/mux", "internal/ring", "internal/guest/session", "internal/guest/plan", "internal/guest/proc", "internal/guest/sys"},
	"internal/guest/session/files": {"wire", "wire/frame", "internal/flow", "internal/pax", "internal/tree", "internal/watch", "internal/guest/session", "internal/guest/sys"},
	"internal/guest/session/tcp":   {"wire", "internal/guest/session", "internal/guest/sys"},
	"internal/guest/agent":         {"wire", "wire/frame", "internal/mux", "internal/guest/session", "internal/guest/session/exec", "internal/guest/session/files", "internal/guest/session/tcp", "internal/guest/plan", "internal/guest/proc", "internal/guest/sys", "internal/procfs"},
	"internal/filelock":            {},
	"internal/vmm":                 {"internal/filelock"},
	"internal/snapshot":            {"internal/filelock", "internal/vmm"},
	"internal/image":               {"internal/archive", "internal/filelock", "internal/image/erofs", "internal/image/oci"},
	"internal/archive":             {},
	"internal/image/erofs":         {"internal/archive"},
	"internal/image/ext4":          {},
	"internal/image/oci":           {},
	"internal/archtest":            {},
	"internal/guest/life":          {"wire", "wire/bootenv", "internal/guest/plan", "internal/guest/sys", "internal/guest/boot", "internal/guest/proc", "internal/guest/session/exec", "internal/guest/session/files", "internal/guest/agent"},
	"cmd/agentd":                   {"internal/guest/life", "internal/guest/proc", "internal/guest/sys"},
	"internal/pods":                {},
	"internal/machines":            {"wire", "wire/bootenv", "client", "sandbox"},
	"internal/procfs":              {},
	"internal/pax":                 {},
	"internal/tree":                {"internal/pax"},          // Both ends' descriptors: no system calls of the guest alone.
	"internal/watch":               {"wire", "internal/tree"}, // As internal/tree.
	"internal/transfer":            {"client", "internal/archive", "internal/pax", "internal/tree"},
	"internal/trace":               {"wire", "wire/frame"},
	"cmd/agentctl":                 {"sandbox", "client", "internal/machines", "internal/pods", "internal/procfs", "internal/transfer", "internal/trace"},

	// Only tests import these.
	"internal/doctest":        {},
	"internal/nstest":         {},
	"internal/imagetest/scan": {},
	"internal/imagetest":      {},
	"internal/calls":          {},
	"internal/fault":          {},
	"internal/fault/init":     {"internal/fault"},
	"internal/reference":      {"internal/image"},
	"internal/contract":       {"wire", "wire/frame"},
	"internal/vmtest":         {"wire", "wire/frame", "client", "sandbox", "internal/hooks", "internal/contract", "internal/image", "internal/reference"},
	"internal/vmtest/suite":   {"wire", "wire/frame", "client", "sandbox", "internal/hooks", "internal/contract", "internal/vmtest"},
	"internal/vmtest/boots":   {"wire", "client", "sandbox", "internal/hooks", "internal/vmtest"},
	"bench":                   {"wire", "wire/frame", "client", "internal/vmm", "internal/image", "internal/reference"},
	"bench/warm":              {"sandbox"},
	"bench/guest":             {"internal/guest/boot", "internal/guest/sys"},
}

// testOnly are packages that no shipped program may link.
var testOnly = []string{
	"internal/nstest", "internal/doctest", "internal/imagetest", "internal/imagetest/scan", "internal/calls", "internal/fault", "internal/fault/init", "internal/reference",
	"internal/contract", "internal/vmtest", "internal/vmtest/suite", "internal/vmtest/boots", "bench", "bench/guest", "bench/warm",
}

// never is what a package must not link at all, not even through others, and why.
var never = map[string]map[string]string{
	"cmd/agentd": {
		"os/exec":       "its Wait races the one reaper (internal/guest/proc)",
		"net/http":      "doubles the guest binary",
		"encoding/json": "costs 200 KiB that one small file does not need",
		"crypto/rand":   "costs 110 KiB, and 32 MiB of address space; sys.Random asks the kernel",
		"testing":       "test code in a shipped binary",
		"os/user":       "accounts are the guest root's files, read beneath it (plan.ResolveUser)",
	},
	"cmd/agentctl": {
		"testing": "test code in a shipped binary",
	},
	"internal/guest/plan": {
		"golang.org/x/sys/unix": "a plan decides and touches nothing",
	},
}

type pkg struct {
	ImportPath  string
	Imports     []string
	Deps        []string
	GoFiles     []string
	TestGoFiles []string
}

func list(t *testing.T) (out []pkg) {
	t.Helper()
	lookAtSources(t)
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports,Deps,GoFiles", "./...")
	cmd.Dir = "../.."
	cmd.Env = append(cmd.Environ(), "GOOS=linux", "CGO_ENABLED=0")
	b, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	for d := json.NewDecoder(strings.NewReader(string(b))); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return out
		} else if err != nil {
			t.Fatal(err)
		}
		out = append(out, p)
	}
}

// lookAtSources reads the names of all source files: the go command caches a
// test by the files that the test itself looks at, and go list is another
// process, so a forbidden import would pass from the cache.
func lookAtSources(t *testing.T) {
	t.Helper()
	err := filepath.WalkDir("../..", func(path string, _ fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".go") {
			_, err = os.Stat(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestImports(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range list(t) {
		name := strings.TrimPrefix(p.ImportPath, module+"/")
		seen[name] = true
		allowed, ok := may[name]
		if !ok {
			t.Errorf("%s is not in the map: add it, and its line in ARCHITECTURE.md", name)
			continue
		}
		for _, i := range p.Imports {
			if s, ours := strings.CutPrefix(i, module+"/"); ours && !slices.Contains(allowed, s) {
				t.Errorf("%s must not import %s", name, s)
			}
		}
		for _, d := range p.Deps {
			if why, bad := never[name][d]; bad {
				t.Errorf("%s must not link %s: %s", name, d, why)
			}
			if s, ours := strings.CutPrefix(d, module+"/"); ours && slices.Contains(testOnly, s) && !slices.Contains(testOnly, name) {
				t.Errorf("%s must not link %s: it is for tests", name, s)
			}
		}
	}
	for name := range may {
		if !seen[name] {
			t.Errorf("%s is in the map and not in the tree", name)
		}
	}
}

// TestMapIsDrawn holds ARCHITECTURE.md to the map.
func TestMapIsDrawn(t *testing.T) {
	b, err := os.ReadFile("../../ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	for name, imports := range may {
		row := "| `" + name + "` | " + drawn(imports) + " |"
		if !strings.Contains(string(b), row) {
			t.Errorf("ARCHITECTURE.md lacks the row that begins %s", row)
		}
	}
}

func drawn(imports []string) string {
	if len(imports) == 0 {
		return "–"
	}
	return strings.Join(imports, ", ")
}
