package main

import (
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/spf13/cobra"

	"github.com/agentd-go/agentd/internal/machines"
	"github.com/agentd-go/agentd/internal/procfs"
	"github.com/agentd-go/agentd/sandbox"
)

// schemas is where the schemas of all output are.
const schemas = "../../docs/schema"

// outputs are what is written as JSON, by the names of their schemas.
var outputs = map[string]any{
	"error": failure{}, "machines": []machineLine{}, "changes": []change{}, "outcomes": []outcome{}, "kept-ends": []keptEnd{}, "log-line": logLine{},
	"processes": []procfs.Process{}, "kept": []keptLine{}, "inspect": []inspection{}, "stats": procfs.Rates{}, "stats-list": []machineStats{}, "why": hang{}, "stacks": []stack{},
	"plan": []planStep{}, "copy": copyResult{}, "sync": syncResult{}, "files": []fileLine{}, "watch-line": watchLine{}, "boot-times": bootTimes{}, "ports": []machines.Port{}, "port-line": portLine{}, "forward-line": forwardLine{},
	"image": sandbox.Image{}, "images": []sandbox.Image{}, "image-removals": []imageRemoval{},
	"usage": []usage{}, "pruning": pruning{},
	"kernel": sandbox.Kernel{}, "kernels": []sandbox.Kernel{}, "config": sandbox.Config{},
	"version": build{}, "volumes": []machines.Volume{}, "volume-removals": []removal{},
	"snapshots": []machines.Snapshot{}, "snapshot-removals": []removal{},
}

// valid is SCHEMA...: the last command's output is a value of each of them, in this
// order; what is more is of the last.
func valid(ts *testscript.TestScript, _ bool, args []string) {
	d := json.NewDecoder(strings.NewReader(ts.ReadFile("stdout")))
	d.UseNumber()
	n := 0
	for ; ; n++ {
		var v any
		err := d.Decode(&v)
		if errors.Is(err, io.EOF) {
			break
		}
		ts.Check(err)
		name := args[min(n, len(args)-1)]
		s, err := compile(name)
		ts.Check(err)
		if err := s.Validate(v); err != nil {
			ts.Fatalf("value %d is no %s: %v", n+1, name, err)
		}
	}
	if n < len(args) {
		ts.Fatalf("%d values, want %d", n, len(args))
	}
}

func compile(name string) (*jsonschema.Schema, error) {
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.AssertFormat()
	return c.Compile(filepath.Join(schemas, name+".json"))
}

// TestSchemas holds the schemas to the types that are written: no field is missing
// in one of the two, and what is always there is required.
func TestSchemas(t *testing.T) {
	for name, v := range outputs {
		if _, err := compile(name); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		agree(t, name, reflect.TypeOf(v), load(t, name+".json"))
	}
}

// A schema is what we use of the language of schemas.
type schema struct {
	Type       any               `json:"type"` // A text, or [TYPE, "null"].
	Ref        string            `json:"$ref"`
	AllOf      []schema          `json:"allOf"`
	Items      *schema           `json:"items"`
	Properties map[string]schema `json:"properties"`
	Required   []string          `json:"required"`
	Defs       map[string]schema `json:"$defs"`
}

// A part is a schema within a file, which its references are relative to.
type part struct{ file, schema schema }

func load(t *testing.T, file string) part {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(schemas, file))
	if err != nil {
		t.Fatal(err)
	}
	var s schema
	if err := json.Unmarshal(b, &s); err != nil {
		t.Fatal(err)
	}
	return part{s, s}
}

// all are the schemas that hold where p does: itself, what it refers to, and what it
// is all of.
func (p part) all(t *testing.T) []part {
	t.Helper()
	parts := []part{p}
	if p.schema.Ref != "" {
		file, name, inside := strings.Cut(p.schema.Ref, "#/$defs/")
		next := p
		if file != "" {
			next = load(t, file)
		}
		if inside {
			next.schema = next.file.Defs[name]
		}
		parts = append(parts, next.all(t)...)
	}
	for _, s := range p.schema.AllOf {
		parts = append(parts, part{p.file, s}.all(t)...)
	}
	return parts
}

// jsonTypes are the schemas' words for kinds.
var jsonTypes = map[reflect.Kind]string{
	reflect.String: "string", reflect.Bool: "boolean", reflect.Float64: "number", reflect.Slice: "array", reflect.Array: "array",
	reflect.Map: "object", reflect.Struct: "object",
	reflect.Int: "integer", reflect.Int64: "integer", reflect.Uint8: "integer", reflect.Uint32: "integer", reflect.Uint64: "integer",
}

// agree compares a type with its schema.
func agree(t *testing.T, where string, typ reflect.Type, s part) {
	t.Helper()
	if typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	want := jsonTypes[typ.Kind()]
	if typ == reflect.TypeFor[time.Time]() {
		want = "string"
	}
	properties, required := map[string]part{}, map[string]bool{}
	for _, p := range s.all(t) {
		if got := p.schema.Type; got != nil && got != want && !reflect.DeepEqual(got, []any{want, "null"}) {
			t.Errorf("%s is of type %v, want %s", where, got, want)
		}
		if p.schema.Items != nil && want == "array" {
			agree(t, where+"[]", typ.Elem(), part{p.file, *p.schema.Items})
		}
		for name, s := range p.schema.Properties {
			properties[name] = part{p.file, s}
		}
		for _, name := range p.schema.Required {
			required[name] = true
		}
	}
	if want == "object" && typ.Kind() == reflect.Struct {
		agreeFields(t, where, typ, properties, required)
	}
}

func agreeFields(t *testing.T, where string, typ reflect.Type, properties map[string]part, required map[string]bool) {
	t.Helper()
	for name, f := range jsonFields(typ) {
		p, ok := properties[name]
		if !ok {
			t.Errorf("%s: the schema has no %s", where, name)
			continue
		}
		delete(properties, name)
		_, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if always := options == ""; always != required[name] {
			t.Errorf("%s.%s: required is %t, want %t", where, name, required[name], always)
		}
		agree(t, where+"."+name, f.Type, p)
	}
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		t.Errorf("%s: nothing writes %s", where, name)
	}
}

// jsonFields are the fields of a struct by their names, those of embedded structs
// among them; the outer one wins, as in package json.
func jsonFields(typ reflect.Type) map[string]reflect.StructField {
	all := map[string]reflect.StructField{}
	for f := range typ.Fields() {
		if f.Anonymous {
			maps.Copy(all, jsonFields(f.Type))
		}
	}
	for f := range typ.Fields() {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" && name != "-" {
			all[name] = f
		}
	}
	return all
}

// TestJSONIsDocumented holds docs/JSON.md to the commands: each has a schema, which a
// script holds it to, or is among those without one; and every field has its name
// there.
func TestJSONIsDocumented(t *testing.T) {
	b, err := os.ReadFile("../../docs/JSON.md")
	if err != nil {
		t.Fatal(err)
	}
	with, without := commandTables(string(b))
	scripts := scriptWords(t)
	for _, cmd := range leaves(newRoot()) {
		name := strings.TrimPrefix(cmd.CommandPath(), "agentctl ")
		asked := cmd.Flags().Lookup("json") != nil
		if asked == (with[name] == nil) || !asked && !without[name] {
			t.Errorf("%s: --json is %t, schemas are %v, in the table of those without: %t", name, asked, with[name], without[name])
		}
		for _, s := range with[name] {
			if outputs[s] == nil {
				t.Errorf("%s: no type has the schema %s", name, s)
			}
			if !scripts[s] {
				t.Errorf("%s: no script says: valid %s", name, s)
			}
		}
	}
	for title, v := range outputs {
		for _, name := range allFields(reflect.TypeOf(v)) {
			if !strings.Contains(string(b), "`"+name+"`") && !strings.Contains(string(b), "."+name+"`") {
				t.Errorf("docs/JSON.md, %s: no field %s", title, name)
			}
		}
	}
}

// commandTables reads the tables of commands with --json, with their schemas, and
// of those without.
func commandTables(text string) (with map[string][]string, without map[string]bool) {
	with, without = map[string][]string{}, map[string]bool{}
	ticked := regexp.MustCompile("`([a-z -]+?)( -d| NAME)?`")
	schema := regexp.MustCompile(`\(schema/([a-z-]+)\.json\)`)
	for line := range strings.Lines(text) {
		cells := strings.Split(line, "|")
		if len(cells) < 3 {
			continue
		}
		for _, command := range ticked.FindAllStringSubmatch(cells[1], -1) {
			if s := schema.FindStringSubmatch(cells[2]); s != nil {
				with[command[1]] = append(with[command[1]], s[1])
			} else if strings.Contains(cells[2], "no JSON:") {
				without[command[1]] = true
			}
		}
	}
	return with, without
}

// scriptWords are the schemas that scripts hold output to.
func scriptWords(t *testing.T) map[string]bool {
	t.Helper()
	words := map[string]bool{}
	scripts, err := filepath.Glob("testdata/script/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range scripts {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			if f := strings.Fields(line); len(f) > 1 && f[0] == "valid" {
				for _, word := range f[1:] {
					words[word] = true
				}
			}
		}
	}
	return words
}

// leaves are the commands that do something and are for people.
func leaves(cmd *cobra.Command) (all []*cobra.Command) {
	for _, c := range cmd.Commands() {
		if !c.Hidden && c.Runnable() && !c.HasSubCommands() {
			all = append(all, c)
		}
		all = append(all, leaves(c)...)
	}
	return all
}

// allFields are the names of all fields, of what is inside too.
func allFields(typ reflect.Type) (names []string) {
	switch typ.Kind() { //nolint:exhaustive // The others have no fields.
	case reflect.Pointer, reflect.Slice, reflect.Array:
		return allFields(typ.Elem())
	case reflect.Struct:
	default:
		return nil
	}
	for name, f := range jsonFields(typ) {
		names = append(append(names, name), allFields(f.Type)...)
	}
	return names
}
