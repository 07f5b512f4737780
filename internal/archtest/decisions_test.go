package archtest

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestDecisions holds docs/DECISIONS.md to its form: numbers that follow one another,
// a date and a status after each heading, and each number once in the index.
func TestDecisions(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(repository(t), "docs", "DECISIONS.md"))
	if err != nil {
		t.Fatal(err)
	}
	status := regexp.MustCompile(`^\*\d{4}-\d\d-\d\d · (accepted|(amended by|superseded by) \d+)\*$`)
	heading := regexp.MustCompile(`^## (\d+)\. (.+)$`)
	index, decisions, _ := strings.Cut(string(text), "\n## ")
	lines := strings.Split("## "+decisions, "\n")
	next := 1
	for i, line := range lines {
		m := heading.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		if m[1] != strconv.Itoa(next) {
			t.Errorf("%q: want number %d", line, next)
		}
		if i+2 >= len(lines) || !status.MatchString(lines[i+2]) {
			t.Errorf("%q: want a line like *2026-11-30 · accepted* after it", line)
		}
		if n := strings.Count(index, "\n- "+m[1]+" "+m[2]+"\n"); n != 1 {
			t.Errorf("the index has %d lines %q", n, "- "+m[1]+" "+m[2])
		}
		next++
	}
	if strings.Contains(decisions, "\n**20") {
		t.Error("a decision has the form of a paragraph; it needs a number and a line in the index")
	}
}
