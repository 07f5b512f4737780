package main

import (
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/agentd-go/agentd/internal/procfs"
)

// TestJSONIsDocumented holds the types that are written as JSON to docs/JSON.md:
// every field has its name in its command's section.
func TestJSONIsDocumented(t *testing.T) {
	b, err := os.ReadFile("../../docs/JSON.md")
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]string{}
	for _, s := range strings.Split(string(b), "\n## ")[1:] {
		title, body, _ := strings.Cut(s, "\n")
		sections[title] = body
	}
	for title, v := range map[string]any{
		"ps": machineLine{}, "ps NAME": procfs.Process{}, "inspect": inspection{}, "stats": procfs.Rates{},
		"why": hang{}, "cp": copyResult{}, "ls": fileLine{}, "boot-times": bootTimes{},
	} {
		text, ok := sections[title]
		if !ok {
			t.Errorf("docs/JSON.md has no section %s", title)
		}
		if title != "ps NAME" {
			text += sections["ps NAME"] + sections["stats"] // Which others refer to.
		}
		for _, name := range jsonFields(reflect.TypeOf(v)) {
			if !strings.Contains(text, "`"+name+"`") && !strings.Contains(text, "."+name+"`") {
				t.Errorf("docs/JSON.md, %s: no field %s", title, name)
			}
		}
	}
}

// jsonFields are the names of all fields, of what is inside too.
func jsonFields(t reflect.Type) (names []string) {
	switch t.Kind() { //nolint:exhaustive // The others have no fields.
	case reflect.Pointer, reflect.Slice:
		return jsonFields(t.Elem())
	case reflect.Struct:
	default:
		return nil
	}
	if t.PkgPath() == "time" || t.PkgPath() == "net/http" {
		return nil
	}
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "-" || !f.IsExported() {
			continue
		}
		if name != "" {
			names = append(names, name)
		}
		// The machine's configuration is package sandbox's, and described as a whole.
		if name != "config" {
			names = append(names, jsonFields(f.Type)...)
		}
	}
	return names
}
