package archtest

import (
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the tables of docs/TESTING.md instead of comparing with them")

// A promise is one line of a table in docs/TESTING.md: what BOOT.md or PROTOCOL.md
// promises, and the functions whose doc comments say that they hold it:
//
//	//holds:boot 8: six mounts with types and flags in the final root
//	//holds:wire 12, 14: records by the second port alone
type promise struct {
	doc      string // "boot" or "wire".
	sections string // As in the marker: "8", "5, 12", "19a".
	text     string
}

var marker = regexp.MustCompile(`^//holds:(boot|wire) (\d+[a-z]?(?:, \d+[a-z]?)*): (.+)$`)

// documents have the sections that markers name.
var documents = map[string]string{"boot": "docs/BOOT.md", "wire": "docs/PROTOCOL.md"}

// TestPromises makes the tables of docs/TESTING.md from the markers of the tests, so
// that no table names a test that is gone.
func TestPromises(t *testing.T) {
	root := repository(t)
	held := promises(t, root)
	for p := range held {
		checkSections(t, root, p)
	}
	path := filepath.Join(root, "docs", "TESTING.md")
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text := old
	for doc := range documents {
		text = replaceTable(t, text, doc, table(held, doc))
	}
	if bytes.Equal(text, old) {
		return
	}
	if !*update {
		t.Fatal("docs/TESTING.md differs from the markers; run: go test ./internal/archtest -update")
	}
	if err := os.WriteFile(path, text, 0o644); err != nil {
		t.Fatal(err)
	}
}

// repository is the top directory.
func repository(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// promises reads the doc comments of all functions below root.
func promises(t *testing.T, root string) map[promise][]string {
	t.Helper()
	held := map[promise][]string{}
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".")):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, ".go"):
			return nil
		}
		return readPromises(path, held)
	})
	if err != nil {
		t.Fatal(err)
	}
	return held
}

func readPromises(path string, held map[promise][]string) error {
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
	if err != nil {
		return err
	}
	in := map[*ast.Comment]bool{}
	for _, decl := range file.Decls {
		f, isFunc := decl.(*ast.FuncDecl)
		if !isFunc || f.Doc == nil {
			continue
		}
		for _, c := range f.Doc.List {
			if m := marker.FindStringSubmatch(c.Text); m != nil {
				p := promise{m[1], m[2], m[3]}
				held[p] = append(held[p], strings.TrimSuffix(file.Name.Name, "_test")+"."+f.Name.Name)
				in[c] = true
			}
		}
	}
	for _, group := range file.Comments {
		for _, c := range group.List {
			if strings.HasPrefix(c.Text, "//holds:") && !in[c] {
				return fmt.Errorf("%s: %q is no marker in the doc comment of a function", path, c.Text)
			}
		}
	}
	return nil
}

// checkSections fails for a section that the document does not have.
func checkSections(t *testing.T, root string, p promise) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, documents[p.doc]))
	if err != nil {
		t.Fatal(err)
	}
	for section := range strings.SplitSeq(p.sections, ", ") {
		number := strings.TrimRight(section, "abcdefgh")
		if !bytes.Contains(text, []byte("\n## "+number+". ")) && !bytes.Contains(text, []byte("\n### "+section)) {
			t.Errorf("%s has no section %s, which %q names", documents[p.doc], section, p.text)
		}
	}
}

func table(held map[promise][]string, doc string) string {
	var rows []promise
	for p := range maps.Keys(held) {
		if p.doc == doc {
			rows = append(rows, p)
		}
	}
	slices.SortFunc(rows, func(a, b promise) int {
		return cmp.Or(cmp.Compare(firstSection(a), firstSection(b)), cmp.Compare(a.sections, b.sections), cmp.Compare(a.text, b.text))
	})
	var b strings.Builder
	b.WriteString("| § | Must hold | Held by |\n| --- | --- | --- |\n")
	for _, p := range rows {
		by := slices.Compact(slices.Sorted(slices.Values(held[p])))
		fmt.Fprintf(&b, "| %s | %s | `%s` |\n", p.sections, p.text, strings.Join(by, "`, `"))
	}
	return b.String()
}

func firstSection(p promise) int {
	n, err := strconv.Atoi(regexp.MustCompile(`^\d+`).FindString(p.sections))
	if err != nil {
		panic(err) // The marker's pattern begins with a digit.
	}
	return n
}

// replaceTable puts the table between the document's two marks.
func replaceTable(t *testing.T, text []byte, doc, rows string) []byte {
	t.Helper()
	begin, end := "<!-- holds:"+doc+" -->\n", "<!-- end -->\n"
	before, rest, found := bytes.Cut(text, []byte(begin))
	_, after, closed := bytes.Cut(rest, []byte(end))
	if !found || !closed {
		t.Fatalf("docs/TESTING.md has no %q with %q after it", begin, end)
	}
	return slices.Concat(before, []byte(begin), []byte(rows), []byte(end), after)
}
