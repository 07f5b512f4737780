// Package doctest compares documents with the code, so that a name or a number that changes
// in one must change in the other.
package doctest

import (
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A Section is the text below one heading of a document, with that of its subsections.
type Section struct {
	where string
	text  string
}

// Open returns the section whose heading begins with a word or number, "8.6" or "Words"; ""
// is the whole document. path begins at the top of the repository.
func Open(t *testing.T, path, heading string) Section {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(top(t), path))
	if err != nil {
		t.Fatal(err)
	}
	s := Section{where: strings.TrimSpace(path + " " + heading), text: string(b)}
	if heading != "" {
		s.text = below(s.text, heading)
	}
	if s.text == "" {
		t.Fatalf("%s: no such section", s.where)
	}
	return s
}

// top is the directory with go.mod.
func top(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	for ; err == nil; dir = filepath.Dir(dir) {
		if _, failed := os.Stat(filepath.Join(dir, "go.mod")); failed == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			err = os.ErrNotExist
		}
	}
	t.Fatal(err)
	return ""
}

// below returns the lines after a heading, up to the next one of its level.
func below(text, heading string) string {
	var in strings.Builder
	depth := 0
	for line := range strings.Lines(text) {
		level := len(line) - len(strings.TrimLeft(line, "#"))
		title := strings.TrimLeft(line, "# ")
		switch {
		case level > 1 && depth == 0 && begins(title, heading):
			depth = level
		case level > 0 && level <= depth:
			return in.String()
		case depth > 0:
			in.WriteString(line)
		}
	}
	return in.String()
}

// begins reports whether a title begins with a heading's words: "8.1" is not "8.12".
func begins(title, heading string) bool {
	rest, ok := strings.CutPrefix(title, heading)
	return ok && (rest == "" || strings.ContainsAny(rest[:1], ". ,:\n"))
}

// Says fails for each sentence, or part of one, that the section does not have. Line breaks
// do not matter.
func (s Section) Says(t *testing.T, sentences ...string) {
	t.Helper()
	text := folded(s.text)
	for _, sentence := range sentences {
		if !strings.Contains(text, folded(sentence)) {
			t.Errorf("%s does not say: %s", s.where, sentence)
		}
	}
}

// Words are the words of the section: letters, digits and underscores. Those with hyphens
// are words as a whole, and so are their parts.
func (s Section) Words() map[string]bool {
	all := map[string]bool{}
	for _, w := range regexp.MustCompile(`[\w-]+`).FindAllString(s.text, -1) {
		all[w] = true
		for part := range strings.SplitSeq(w, "-") {
			all[part] = true
		}
	}
	return all
}

// Lines are the lines of the section.
func (s Section) Lines() iter.Seq[string] { return strings.Lines(s.text) }

func folded(s string) string { return strings.Join(strings.Fields(s), " ") }

// Rows returns the cells of the rows of all tables in the section that have so many columns.
func (s Section) Rows(columns int) (rows [][]string) {
	for line := range strings.Lines(s.text) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") || strings.HasPrefix(line, "| --") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), " |")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if len(cells) == columns {
			rows = append(rows, cells)
		}
	}
	return rows
}

// SameRows fails for each row of want that the tables lack. With all, also for each row of
// theirs that want does not have; their first row is the head.
func (s Section) SameRows(t *testing.T, want [][]string, all bool) {
	t.Helper()
	if len(want) == 0 {
		t.Fatal("no rows")
	}
	have := s.Rows(len(want[0]))
	for _, row := range want {
		if !slices.ContainsFunc(have, func(h []string) bool { return slices.Equal(h, row) }) {
			t.Errorf("%s lacks the row: | %s |", s.where, strings.Join(row, " | "))
		}
	}
	if !all {
		return
	}
	for _, row := range have[1:] {
		if !slices.ContainsFunc(want, func(w []string) bool { return slices.Equal(w, row) }) {
			t.Errorf("%s has a row that the code does not: | %s |", s.where, strings.Join(row, " | "))
		}
	}
}

// Size writes a number of bytes as documents do: "64 KiB", "4 MiB", "1 GiB".
func Size[N ~int | ~int64 | ~uint32 | ~uint64](n N) string {
	unit := "bytes"
	for _, next := range []string{"KiB", "MiB", "GiB"} {
		if n < 1024 || n%1024 != 0 {
			break
		}
		n, unit = n/1024, next
	}
	return fmt.Sprint(n, " ", unit)
}

// Time writes a duration as documents do: "60 s", "3 ms".
func Time(d time.Duration) string {
	if d%time.Second == 0 {
		return fmt.Sprintf("%d s", d/time.Second)
	}
	return fmt.Sprintf("%d ms", d/time.Millisecond)
}

// Count writes a number with commas between thousands: "1,024".
func Count(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
