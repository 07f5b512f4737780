package wire

import (
	"flag"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing with them")

// TestSchema holds the fields of every generation. The file of a generation that
// has been released must not change: what is new belongs to the next one.
func TestSchema(t *testing.T) {
	t.Parallel()
	for gen := Vendor; gen <= 9; gen++ { // The file of Vendor has the messages of extensions.
		t.Run(fmt.Sprint(gen), func(t *testing.T) {
			t.Parallel()
			name := fmt.Sprintf("testdata/schema/gen-%d.txt", gen)
			got := schema(gen)
			if *update {
				must(t, os.WriteFile(name, []byte(got), 0o644))
			}
			want, err := os.ReadFile(name)
			must(t, err)
			if got != string(want) {
				t.Errorf("generation %d is\n%s\nwant\n%s", gen, got, want)
			}
		})
	}
}

// schema prints the messages of a generation with their fields. Of a field that
// is not required it says what a sender writes who has nothing to say.
func schema(gen Generation) string {
	p := &printer{gen: gen}
	for _, r := range rows {
		if vendor := gen == Vendor; vendor == (r.Since == Vendor) && r.Since <= gen {
			p.line("%s", r.Type)
			p.fields(r.make().fields())
		}
	}
	return p.String()
}

// TestExtensionSchema holds the alternatives that only vendor extensions have. A name of
// an extension never changes its meaning, so they change only by optional fields.
func TestExtensionSchema(t *testing.T) {
	t.Parallel()
	const name = "testdata/schema/extensions.txt"
	p := &printer{gen: Newest}
	p.line("%s op", TypeFSRequest)
	alternativesInside(p, FSOp.op, fsExtensions)
	p.line("%s data", TypeFSResponse)
	alternativesInside(p, FSResult.result, fsExtensionResults)
	if *update {
		must(t, os.WriteFile(name, []byte(p.String()), 0o644))
	}
	want, err := os.ReadFile(name)
	must(t, err)
	if p.String() != string(want) {
		t.Errorf("extensions are\n%s\nwant\n%s", p, want)
	}
}

// printer writes indented lines.
type printer struct {
	strings.Builder
	gen    Generation
	indent string
}

func (p *printer) line(format string, args ...any) {
	p.WriteString(p.indent + fmt.Sprintf(format, args...) + "\n")
}

func (p *printer) fields(all []field) {
	outer := p.indent
	p.indent += "    "
	for _, f := range all {
		if f.gen <= p.gen {
			p.field(f)
		}
	}
	p.indent = outer
}

func (p *printer) field(f field) {
	rule := ""
	switch {
	case f.omitted:
		rule = ", or left out"
	case !f.required:
		rule = ", may be missing"
	}
	v := describe(f.value)
	p.line("%s %s%s", f.name, v.kind(), rule)
	v.inside(p)
}

// described is a value of which the schema can be printed: its kind in a word, and
// the fields inside it.
type described interface {
	kind() string
	inside(p *printer)
}

func describe(v any) described {
	d, ok := v.(described)
	if !ok {
		panic(fmt.Sprintf("%T has no printed form", v))
	}
	return d
}

func (words[T]) kind() string { return "text" }

func (w word[T]) kind() string {
	quoted := make([]string, len(w.set))
	for i, s := range w.set {
		quoted[i] = fmt.Sprintf("%q", string(s))
	}
	return strings.Join(quoted, " or ")
}

func (number[T]) kind() string {
	k := reflect.TypeFor[T]().Kind().String()
	return strings.Replace(strings.Replace(k, "uint", "u", 1), "int", "i", 1)
}

func (n ranged[T]) kind() string { return n.number.kind() + fmt.Sprintf(" %d-%d", n.least, n.most) }

func (boolean) kind() string   { return "bool" }
func (octets) kind() string    { return "bytes" }
func (f fixed) kind() string   { return fmt.Sprintf("%d integers", len(f.b)) }
func (entries) kind() string   { return "map" }
func (kinded[V]) kind() string { return "map by kind" }

func (nullableKind[V]) kind() string { return "map by kind or null" }

func (x external[V]) kind() string {
	if x.nullable {
		return "one of these or null"
	}
	return "one of these"
}

func (o option[T]) kind() string { return describe(o.of(new(T))).kind() + " or null" }
func (l list[T]) kind() string   { return "list of " + describe(l.of(new(T))).kind() }

func (words[T]) inside(*printer)  {}
func (number[T]) inside(*printer) {}
func (boolean) inside(*printer)   {}
func (octets) inside(*printer)    {}
func (fixed) inside(*printer)     {}

func (numberList) kind() string    { return "list of u64" }
func (numberList) inside(*printer) {}

func (maybeText) kind() string         { return "text or null" }
func (maybeText) inside(*printer)      {}
func (maybeNumber[T]) kind() string    { return number[T]{}.kind() + " or null" }
func (maybeNumber[T]) inside(*printer) {}

func (inner) kind() string        { return "map" }
func (i inner) inside(p *printer) { p.fields(i.fields()) }

func (es entries) inside(p *printer)    { p.fields(es) }
func (o option[T]) inside(p *printer)   { describe(o.of(new(T))).inside(p) }
func (l list[T]) inside(p *printer)     { describe(l.of(new(T))).inside(p) }
func (x external[V]) inside(p *printer) { alternativesInside(p, x.open, x.all) }
func (k kinded[V]) inside(p *printer)   { alternativesInside(p, k.open, k.all) }

func alternativesInside[V, C any](p *printer, open func(V) (string, C), all alternatives[V]) {
	outer := p.indent
	p.indent += "    "
	byName := func(a, b alternative[V]) int { return strings.Compare(a.name, b.name) }
	for _, a := range slices.SortedFunc(slices.Values(all), byName) {
		_, content := open(a.make())
		v := describe(content)
		p.line("%s: %s", a.name, v.kind())
		v.inside(p)
	}
	p.indent = outer
}

// The names of the tables are those that the members state.
func TestAlternatives(t *testing.T) {
	checkNames(t, BlockRoot.blockRoot, blockRoots)
	checkNames(t, Upper.upper, uppers)
	checkNames(t, FSOp.op, fsOps)
	checkNames(t, FSResult.result, fsResults)
	checkNames(t, FSOp.op, fsExtensions)
	checkNames(t, FSResult.result, fsExtensionResults)
}

func checkNames[V, C any](t *testing.T, open func(V) (string, C), all alternatives[V]) {
	t.Helper()
	for _, a := range all {
		if name, _ := open(a.make()); name != a.name {
			t.Errorf("%T states the name %s, the table has %s", a.make(), name, a.name)
		}
	}
}
