package main

import (
	"cmp"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/agentd-go/agentd/internal/doctest"
)

const commandsDocument = "docs/AGENTCTL.md"

// everyCommand are the commands for people, by their path without "agentctl".
func everyCommand(root *cobra.Command) map[string]*cobra.Command {
	all := map[string]*cobra.Command{}
	for _, c := range root.Commands() {
		if c.Hidden {
			continue
		}
		all[strings.TrimPrefix(c.CommandPath(), "agentctl ")] = c
		maps.Copy(all, everyCommand(c))
	}
	return all
}

// AGENTCTL.md names every command, and it or a document beside it every flag.
func TestDocumentCommands(t *testing.T) {
	text := doctest.Open(t, commandsDocument, "")
	words := text.Words()
	all := everyCommand(newRoot())
	for name, c := range all {
		for word := range strings.FieldsSeq(name) {
			if !words[word] && c.Parent().Name() != "completion" {
				t.Errorf("%s does not name the command %q", commandsDocument, name)
			}
		}
	}
	for _, beside := range []string{"docs/IMAGES.md", "docs/SNAPSHOTS.md"} {
		maps.Copy(words, doctest.Open(t, beside, "").Words())
	}
	for name, c := range all {
		if c.HasParent() && c.Parent().Name() == "completion" { // Cobra's own.
			continue
		}
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden && !words["--"+f.Name] && (f.Shorthand == "" || !words["-"+f.Shorthand]) {
				t.Errorf("%s does not name --%s of %s", commandsDocument, f.Name, name)
			}
		})
	}
}

// Documents name no flag of ours that is not there.
func TestDocumentFlags(t *testing.T) {
	known := map[string]bool{"--help": true}
	for _, c := range everyCommand(newRoot()) {
		c.Flags().VisitAll(func(f *pflag.Flag) { known["--"+f.Name] = true })
	}
	flag := regexp.MustCompile(`--[a-z][a-z0-9-]*[a-z0-9]`)
	for document, others := range map[string][]string{
		commandsDocument:    nil,
		"docs/IMAGES.md":    {"--variant", "--exclude"}, // Of debootstrap and tar.
		"docs/JSON.md":      nil,
		"docs/SNAPSHOTS.md": nil,
		"docs/SECURITY.md":  nil,
		"README.md":         {"--append", "--groups", "--add-subuids", "--add-subgids"}, // Of usermod.
	} {
		for line := range doctest.Open(t, document, "").Lines() {
			for _, name := range flag.FindAllString(line, -1) {
				if !known[name] && !slices.Contains(others, name) {
					t.Errorf("%s: no command has %s: %s", document, name, strings.TrimSpace(line))
				}
			}
		}
	}
}

// What documents show of agentctl begins with a command that is there.
func TestDocumentExamples(t *testing.T) {
	known := everyCommand(newRoot())
	quoted := regexp.MustCompile("^    .*|`[^`]*`")
	call := regexp.MustCompile(`\bagentctl ([a-z][a-z-]*)(?: ([a-z][a-z-]*))?`)
	for _, document := range documentsOfUsers(t) {
		for line := range doctest.Open(t, document, "").Lines() {
			for _, code := range quoted.FindAllString(line, -1) {
				for _, words := range call.FindAllStringSubmatch(code, -1) {
					c := known[words[1]]
					if words[1] == "into" { // Of a sentence of agentctl's own.
						continue
					}
					if c == nil || c.HasSubCommands() && words[2] != "" && known[words[1]+" "+words[2]] == nil {
						t.Errorf("%s: no such command: %s", document, words[0])
					}
				}
			}
		}
	}
}

func documentsOfUsers(t *testing.T) []string {
	t.Helper()
	all, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(all) == 0 {
		t.Fatal(all, err)
	}
	for i := range all {
		all[i] = strings.TrimPrefix(all[i], "../../")
	}
	return append(all, "README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")
}

// DOCKER.md calls only flags the same that a command has, and refuses none of those.
func TestDocumentDocker(t *testing.T) {
	known := everyCommand(newRoot())
	code := regexp.MustCompile("`([^`]+)`")
	flag := regexp.MustCompile(`(?:^|\s)(--[a-z][a-z-]*[a-z])`)
	for _, row := range doctest.Open(t, "docs/DOCKER.md", "Fifty lines").Rows(3)[1:] {
		var last *cobra.Command // "`run --privileged`, `--userns`" are both of run.
		for _, words := range code.FindAllStringSubmatch(row[0], -1) {
			first, rest, _ := strings.Cut(words[1], " ")
			second, _, _ := strings.Cut(rest, " ")
			last = cmp.Or(known[first+" "+second], known[first], last)
			for _, f := range flag.FindAllStringSubmatch(words[1], -1) {
				has := last != nil && last.Flags().Lookup(strings.TrimPrefix(f[1], "--")) != nil
				if row[1] != "refused" && !has && f[1] != "--version" {
					t.Errorf("docs/DOCKER.md: %s has no %s: %s", words[1], f[1], row[0])
				}
			}
		}
	}
}
