package archtest

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/agentd-go/agentd/internal/doctest"
)

// direct matches a requirement of a go.mod.
var direct = regexp.MustCompile(`(?m)^\t(\S+) v\S+$`)

var version = regexp.MustCompile(`/v\d+$`)

// DEPENDENCIES.md has each module that we require, with the packages that import it.
func TestDependenciesAreListed(t *testing.T) {
	libraries := doctest.Open(t, "docs/DEPENDENCIES.md", "Libraries in use").Rows(3)[1:]
	packages := list(t)
	for _, file := range []string{"go.mod", "shim/go.mod"} {
		b, err := os.ReadFile(filepath.Join(repository(t), file))
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range direct.FindAllStringSubmatch(string(b), -1) {
			path := found[1]
			row := slices.IndexFunc(libraries, func(row []string) bool { return names(row[0], path) })
			switch {
			case path == module:
			case row < 0:
				t.Errorf("docs/DEPENDENCIES.md does not list %s of %s", path, file)
			case file == "go.mod":
				checkUsers(t, path, libraries[row][2], packages)
			}
		}
	}
}

// names reports whether a cell names a module, by its path without the host or by its last
// word ("spf13/cobra, pflag").
func names(cell, path string) bool {
	path = version.ReplaceAllString(path, "")
	for _, word := range strings.FieldsFunc(cell, func(r rune) bool { return strings.ContainsRune(" ,;()", r) }) {
		if path == word || strings.HasSuffix(path, "/"+word) {
			return true
		}
	}
	return false
}

// checkUsers compares the packages that import a module with the cell that says where it is
// used.
func checkUsers(t *testing.T, path, where string, packages []pkg) {
	t.Helper()
	var named []string
	for _, n := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(where, -1) {
		named = append(named, n[1])
	}
	everywhere := strings.HasPrefix(where, "everywhere but") // Then the packages that do not.
	used := map[string]bool{}
	for _, p := range packages {
		name := strings.TrimPrefix(p.ImportPath, module+"/")
		uses := slices.ContainsFunc(p.Imports, func(i string) bool { return i == path || strings.HasPrefix(i, path+"/") })
		if !uses || slices.Contains(testOnly, name) && !slices.Contains(named, name) {
			continue
		}
		used[name] = true
		if slices.Contains(named, name) == everywhere {
			t.Errorf("docs/DEPENDENCIES.md says that %s is used in %s, not in %s", path, where, name)
		}
	}
	for _, name := range named {
		if !everywhere && !used[name] && name != "shim" {
			t.Errorf("docs/DEPENDENCIES.md says that %s is used in %s, where it is not", path, name)
		}
	}
}
