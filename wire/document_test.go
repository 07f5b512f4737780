package wire

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/agentd-go/agentd/internal/doctest"
	"github.com/agentd-go/agentd/wire/frame"
)

const protocol = "docs/PROTOCOL.md"

var arrows = map[Direction]string{HostToGuest: "h→g", GuestToHost: "g→h", Both: "both"}

// The message index of the document has the types, directions, generations and flags of
// ours, and the section of kept commands those of the extension.
func TestDocumentIndex(t *testing.T) {
	t.Parallel()
	var index, kept [][]string
	for _, i := range Types() {
		name, flags := "`"+string(i.Type)+"`", strconv.Itoa(int(i.Flags))
		if i.Since == Vendor {
			kept = append(kept, []string{name, arrows[i.Direction], flags})
			continue
		}
		index = append(index, []string{name, arrows[i.Direction], strconv.Itoa(int(i.Since)), flags})
	}
	compareFirst(t, "4", 7, index)
	compareFirst(t, "8.12", 4, kept)
}

// compareFirst compares the first cells of the rows that are of one message each.
func compareFirst(t *testing.T, section string, columns int, want [][]string) {
	t.Helper()
	var got [][]string
	for _, row := range doctest.Open(t, protocol, section).Rows(columns) {
		if strings.HasPrefix(row[0], "`core.") && !strings.Contains(row[0], "*") {
			got = append(got, row[:len(want[0])])
		}
	}
	if !slices.EqualFunc(got, want, slices.Equal) {
		t.Errorf("section %s has\n%q\nwant\n%q", section, got, want)
	}
}

// A document names each field of each message.
func TestDocumentFields(t *testing.T) {
	t.Parallel()
	words := doctest.Open(t, protocol, "").Words()
	boot := doctest.Open(t, "docs/BOOT.md", "").Words()
	schemas, err := filepath.Glob("testdata/schema/*.txt")
	if err != nil || len(schemas) == 0 {
		t.Fatal(schemas, err)
	}
	for _, name := range schemas {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			field, _, _ := strings.Cut(strings.TrimSpace(line), " ")
			field = strings.TrimRight(field, ":\n")
			if strings.HasPrefix(line, " ") && !words[field] && !boot[field] {
				t.Errorf("%s: neither PROTOCOL.md nor BOOT.md names the field %s", name, field)
			}
		}
	}
}

// The document has the limits of decoding and of records.
func TestDocumentLimits(t *testing.T) {
	t.Parallel()
	names := LimitNames()
	for section, sentences := range map[string][]string{
		"2": {"5 … " + strconv.Itoa(frame.MaxLength), "at most " + doctest.Size(frame.MaxLength)},
		"3": {
			"nesting " + strconv.Itoa(maxDepth), "list elements " + strconv.Itoa(maxElements) + " in one payload",
			"one text " + doctest.Size(maxText), "name of a type " + strconv.Itoa(maxTypeName) + " bytes",
		},
		"5.1":  {"cut into " + strconv.Itoa(frame.Slots) + " slots"},
		"6":    {"the smaller of " + strconv.Itoa(int(Newest)) + " and the message's own", strconv.Itoa(int(Newest)) + " to hosts of " + strconv.Itoa(int(Newest)) + " and later"},
		"7.9":  {"1 to " + strconv.Itoa(MaxExtensionName) + " of the letters", "look at the first " + strconv.Itoa(MaxExtensions) + " names"},
		"8.4":  {"`" + strings.Join(names[:], " ") + "`"},
		"8.11": {"64 at most", "1 to " + strconv.Itoa(maxWeight)},
		"8.12": {
			"1 to " + strconv.Itoa(MaxKeptName) + " letters", "at most " + doctest.Size(MaxKeptMemory), "at most " + doctest.Size(MaxKeptDisk),
			"at most " + strconv.Itoa(MaxKeptAge/(24*60*60)) + " days",
		},
		"12.1": {"length = " + strconv.Itoa(RecordHead+frame.HeaderSize-4) + " + data", doctest.Size(MaxRecordData) + " at most"},
	} {
		doctest.Open(t, protocol, section).Says(t, sentences...)
	}
}

// BOOT.md has the names of limits too.
func TestDocumentLimitNames(t *testing.T) {
	t.Parallel()
	names := LimitNames()
	doctest.Open(t, "docs/BOOT.md", "4.4").Says(t, "`"+strings.Join(names[:], " ")+"`")
}

// The document names all extensions, and no others.
func TestDocumentExtensions(t *testing.T) {
	t.Parallel()
	var got []string
	for _, row := range doctest.Open(t, protocol, "7.9").Rows(3)[1:] {
		got = append(got, strings.Trim(row[0], "`"))
	}
	if want := []string{ExtensionArchive, ExtensionFiles, ExtensionKept, ExtensionLimits, ExtensionListen, ExtensionUDP, ExtensionUnix, ExtensionWatch}; !slices.Equal(got, want) {
		t.Errorf("the document has %q, want %q", got, want)
	}
}

// The document names each kind of error and each kind of failure, and no other.
func TestDocumentKinds(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		file, of, section string
		columns           int
	}{
		{"core.go", "ErrorKind", "7.8", 3},
		{"exec.go", "FailureKind", "8.8", 2},
	} {
		want := valuesOf(t, tt.file, tt.of)
		var got []string
		for _, row := range doctest.Open(t, protocol, tt.section).Rows(tt.columns) {
			if name := strings.Trim(row[0], "`"); slices.Contains(want, name) || strings.HasPrefix(row[0], "`") && tt.columns == 3 {
				got = append(got, name)
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("section %s has the kinds %q, want %q", tt.section, got, want)
		}
	}
}

// valuesOf are the values of the constants of a type that a file declares.
func valuesOf(t *testing.T, file, of string) (values []string) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		s, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if typ, ok := s.Type.(*ast.Ident); ok && typ.Name == of {
			if v, ok := s.Values[0].(*ast.BasicLit); ok {
				values = append(values, strings.Trim(v.Value, `"`))
			}
		}
		return true
	})
	return values
}

// The test vectors of the document are those of the golden file, and so is their number.
func TestDocumentVectors(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("testdata/golden/frames.txt")
	if err != nil {
		t.Fatal(err)
	}
	golden := map[string]string{} // By the name, "G01".
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && !strings.HasPrefix(line, "#") {
			golden[f[0]] = f[len(f)-1]
		}
	}
	section := doctest.Open(t, protocol, "19")
	section.Says(t, "has "+strconv.Itoa(len(golden))+" complete frames")
	shown, name := map[string]string{}, ""
	for line := range section.Lines() {
		f := strings.Fields(line)
		if !strings.HasPrefix(line, "    ") {
			continue
		}
		if golden[f[0]] != "" {
			name = f[0]
		}
		shown[name] += f[len(f)-1]
	}
	if len(shown) == 0 {
		t.Error("the document has no vectors")
	}
	for name, frame := range shown {
		if golden[name] != frame {
			t.Errorf("%s is %s in the document, and %s in the golden file", name, frame, golden[name])
		}
	}
}
