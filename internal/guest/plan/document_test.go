package plan

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/agentd-go/agentd/internal/doctest"
)

// BOOT.md has the bounds of a configuration, and PROTOCOL.md those of accounts.
func TestDocumentNumbers(t *testing.T) {
	t.Parallel()
	for section, sentences := range map[string][]string{
		"2":   {fmt.Sprintf("%d MiB of memory take the place of the share", memoryShareMiB)},
		"4":   {fmt.Sprintf("cut to %d bytes", maxShownValue), fmt.Sprintf("1 to %d bytes", maxHostname), fmt.Sprintf("mtu %d", defaultMTU)},
		"4.2": {fmt.Sprintf("over %d bytes, which no serial is", maxSerial), fmt.Sprintf("over %d bytes; a component over %d bytes", maxPath, maxComponent), fmt.Sprintf("more than %d", maxMounts)},
		"5":   {DefaultPath, ShareDir + "/scripts:"},
	} {
		doctest.Open(t, "docs/BOOT.md", section).Says(t, sentences...)
	}
	doctest.Open(t, "docs/PROTOCOL.md", "8.3").Says(t, "of each the first "+doctest.Size(MaxAccountFile), fmt.Sprintf("more than %d groups", maxGroups))
	doctest.Open(t, "docs/PROTOCOL.md", "8.2").Says(t, DefaultPath)
}

// Each step is in BOOT.md: in the order of a boot, and among what ends one.
func TestDocumentSteps(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("print.go")
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`\) Name\(\) string +\{ return "([a-z-]+)" \}`).FindAllStringSubmatch(string(source), -1)
	if len(names) < 20 {
		t.Fatalf("%d names of steps", len(names))
	}
	for section, columns := range map[string]int{"1": 5, "28": 3} {
		var all strings.Builder
		for _, row := range doctest.Open(t, "docs/BOOT.md", section).Rows(columns) {
			all.WriteString(strings.Join(row, " ") + "\n")
		}
		for _, name := range names {
			said := strings.Contains(all.String(), "`"+name[1]+"`")
			if listed := section == "1" && strings.HasSuffix(name[1], "-mount"); !said && !listed { // Row 12 of section 1: "`dir-mount` …".
				t.Errorf("docs/BOOT.md section %s does not name the step %s", section, name[1])
			}
		}
	}
}

// BOOT.md has the essential mounts in their order.
func TestDocumentMounts(t *testing.T) {
	t.Parallel()
	var want [][]string
	for i, m := range essential().List {
		var flags []string
		for _, f := range []struct {
			flag Flags
			name string
		}{{NoDev, "nodev"}, {NoExec, "noexec"}, {NoSUID, "nosuid"}} {
			if m.Flags&f.flag != 0 {
				flags = append(flags, f.name)
			}
		}
		data := m.Data
		if data != "" {
			data = "`" + data + "`"
		}
		want = append(want, []string{strconv.Itoa(i + 1), m.Type, "`" + m.Target + "`", strings.Join(flags, " "), data})
	}
	doctest.Open(t, "docs/BOOT.md", "8").SameRows(t, want, true)
}
