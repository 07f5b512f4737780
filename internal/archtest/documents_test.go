package archtest

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// readDocuments returns the texts of all documents but those of the lab and of decisions,
// which tell of what was.
func readDocuments(t *testing.T) map[string]string {
	t.Helper()
	root, all := repository(t), map[string]string{}
	for _, pattern := range []string{"*.md", "docs/*.md"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil || len(found) == 0 {
			t.Fatal(pattern, err)
		}
		for _, path := range found {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			name, err := filepath.Rel(root, path)
			if err != nil {
				t.Fatal(err)
			}
			if name != "docs/DECISIONS.md" {
				all[name] = string(b)
			}
		}
	}
	return all
}

// Links lead to files, and to headings that are there.
func TestLinks(t *testing.T) {
	t.Parallel()
	all := readDocuments(t)
	link := regexp.MustCompile(`\]\(([^):#\s]*)(?:#([^)\s]+))?\)`)
	for name, text := range all {
		for _, found := range link.FindAllStringSubmatch(text, -1) {
			path, anchor := filepath.Join(filepath.Dir(name), found[1]), found[2]
			if found[1] == "" {
				path = name
			}
			if _, err := os.Stat(filepath.Join(repository(t), path)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if other, ok := all[path]; ok && anchor != "" && !slices.Contains(anchors(other), anchor) {
				t.Errorf("%s: %s has no heading %q", name, path, anchor)
			}
		}
	}
}

// anchors are the names by which headings are linked to.
func anchors(text string) (all []string) {
	for line := range strings.Lines(text) {
		if title, ok := strings.CutPrefix(strings.TrimLeft(line, "#"), " "); ok && strings.HasPrefix(line, "#") {
			title = strings.ToLower(strings.TrimSpace(title))
			all = append(all, strings.ReplaceAll(regexp.MustCompile(`[^\w -]`).ReplaceAllString(title, ""), " ", "-"))
		}
	}
	return all
}

// Files and targets of make that documents name are there.
func TestPathsAndTargets(t *testing.T) {
	t.Parallel()
	makefile, err := os.ReadFile(filepath.Join(repository(t), "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	code := regexp.MustCompile("`[^`]*`|(?m)^    .*$")
	target := regexp.MustCompile("(?m)^[`\\s]+make ([a-z][a-z0-9-]+)")
	path := regexp.MustCompile(`(?:^|[\s` + "`" + `])\.?/?((?:bench|client|cmd|docs|examples|findings|internal|sandbox|scripts|shim|wire)/[\w./-]*[\w])`)
	for name, text := range readDocuments(t) {
		for _, words := range code.FindAllString(text, -1) {
			for _, found := range target.FindAllStringSubmatch(words, -1) {
				if !strings.Contains("\n"+string(makefile), "\n"+found[1]+":") {
					t.Errorf("%s: no target: %s", name, found[0])
				}
			}
			for _, found := range path.FindAllStringSubmatch(words, -1) {
				_, err := os.Stat(filepath.Join(repository(t), found[1]))
				_, inShim := os.Stat(filepath.Join(repository(t), "shim", found[1])) // After "cd shim".
				if err != nil && inShim != nil && !isSymbol(found[1]) {
					t.Errorf("%s: %v", name, err)
				}
			}
		}
	}
}

// isSymbol reports whether a word is a name in a package, such as sandbox/Config, or the
// beginning of a set of names ("internal/guest/{a,b}").
func isSymbol(word string) bool {
	last := word[strings.LastIndex(word, "/")+1:]
	_, name, ok := strings.Cut(last, ".")
	return ok && name != "" && name[0] >= 'A' && name[0] <= 'Z'
}

// inside are variables by which programs of ours tell each other something.
var inside = []string{"AGENTCTL_MACHINE"}

// Each variable that agentctl reads is in a document, and each that a document names is
// read by something.
func TestVariables(t *testing.T) {
	t.Parallel()
	variable := regexp.MustCompile(`\bAGENT(?:D|CTL)_[A-Z0-9_]*[A-Z0-9]\b`)
	read, said := map[string]bool{}, map[string]string{}
	err := filepath.WalkDir(repository(t), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || strings.HasSuffix(path, ".md") {
			return err
		}
		if info, err := e.Info(); err != nil || !info.Mode().IsRegular() || info.Size() > 1<<20 { // No program.
			return err
		}
		b, err := os.ReadFile(path)
		for _, word := range variable.FindAllString(string(b), -1) {
			read[word] = read[word] || strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") && strings.HasPrefix(word, "AGENTCTL_")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range readDocuments(t) {
		for _, word := range variable.FindAllString(text, -1) {
			said[word] = name
		}
	}
	for word, own := range read {
		if own && said[word] == "" && !slices.Contains(inside, word) {
			t.Errorf("no document tells of %s", word)
		}
	}
	for word, name := range said {
		_, ok := read[word]
		_, short := read[strings.TrimSuffix(strings.TrimSuffix(word, "_AMD64"), "_ARM64")]
		if !ok && !short {
			t.Errorf("%s tells of %s, which nothing reads", name, word)
		}
	}
}

// outside are names in documents that other programs have: containerd's client tests, and
// go-containerregistry.
var outside = []string{"TestContainer", "TestRegressionIssue", "TestTask", "extractFileFromTar"}

// Names of functions, types and tests that documents have in code are in a Go file.
func TestNames(t *testing.T) {
	t.Parallel()
	word, camel := regexp.MustCompile(`\w+`), regexp.MustCompile(`\b[A-Za-z]*[a-z][A-Z]\w*\b|\bTest[A-Z]\w*\b`)
	known := map[string]bool{}
	err := filepath.WalkDir(repository(t), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		b, err := os.ReadFile(path)
		for _, w := range word.FindAllString(string(b), -1) {
			known[w] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	code := regexp.MustCompile("`[^`\n]*`")
	for name, text := range readDocuments(t) {
		for _, words := range code.FindAllString(text, -1) {
			for _, w := range camel.FindAllString(words, -1) {
				if !known[w] && !slices.Contains(outside, w) {
					t.Errorf("%s: nothing has the name %s: %s", name, w, words)
				}
			}
		}
	}
}
