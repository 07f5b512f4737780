package options

import (
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

// docs/CONTAINERD.md has a row for each setting, with its annotation and its default.
func TestDocument(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../../../docs/CONTAINERD.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string][]string{}
	for line := range strings.Lines(string(b)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		rows[strings.Trim(cells[0], "`")] = cells
	}
	defaults := reflect.ValueOf(Default())
	for f := range reflect.TypeFor[Options]().Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("toml"), ",")
		row := rows[name]
		if len(row) != 4 {
			t.Errorf("no row for the setting %s", name)
			continue
		}
		if want := "`" + Prefix + strings.ReplaceAll(name, "_", "-") + "`"; row[1] != want && row[1] != "–" {
			t.Errorf("%s: the annotation %s, want %s or –", name, row[1], want)
		}
		if v := defaults.FieldByIndex(f.Index); v.Kind() == reflect.Int && row[2] != strconv.FormatInt(v.Int(), 10) {
			t.Errorf("%s: the default %s, want %d", name, row[2], v.Int())
		}
	}
}
