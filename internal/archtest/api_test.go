package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
)

// atBoot are the types of client for programs that lead the handshake themselves: they
// say it in the protocol's own words.
var atBoot = map[string]bool{"Handshake": true, "Greeting": true}

// Programs need no type of wire for what they do every day.
func TestEverydayAPI(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{"client", "sandbox"} {
		files, err := filepath.Glob(filepath.Join("..", "..", dir, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatal(dir, err)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			for _, shown := range shownOf(file) {
				if word := wireIn(shown.what); word != "" && !atBoot[shown.name] {
					t.Errorf("%s: %s shows wire.%s: give the package a type of its own", filepath.Base(name), shown.name, word)
				}
			}
		}
	}
}

// A shown part of an API, and the name that it belongs to.
type shown struct {
	name string
	what ast.Node
}

func shownOf(file *ast.File) (all []shown) {
	for _, d := range file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Name.IsExported() && ast.IsExported(receiver(d)) {
				all = append(all, shown{d.Name.Name, d.Type})
			}
		case *ast.GenDecl:
			for _, s := range d.Specs {
				all = append(all, shownBy(s)...)
			}
		}
	}
	return all
}

// receiver is the name of a method's type; a function has none, and shows itself.
func receiver(d *ast.FuncDecl) string {
	if d.Recv == nil {
		return d.Name.Name
	}
	typ := d.Recv.List[0].Type
	if star, ok := typ.(*ast.StarExpr); ok {
		typ = star.X
	}
	if name, ok := typ.(*ast.Ident); ok {
		return name.Name
	}
	return ""
}

func shownBy(spec ast.Spec) (all []shown) {
	switch s := spec.(type) {
	case *ast.TypeSpec:
		if !s.Name.IsExported() {
			return nil
		}
		fields, ok := s.Type.(*ast.StructType)
		if !ok {
			return []shown{{s.Name.Name, s.Type}}
		}
		for _, f := range fields.Fields.List {
			if len(f.Names) == 0 || f.Names[0].IsExported() {
				all = append(all, shown{s.Name.Name, f.Type})
			}
		}
	case *ast.ValueSpec:
		if s.Names[0].IsExported() && s.Type != nil {
			all = append(all, shown{s.Names[0].Name, s.Type})
		}
	}
	return all
}

// wireIn finds the first name of package wire in a type.
func wireIn(n ast.Node) (word string) {
	ast.Inspect(n, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok && word == "" {
			if p, ok := s.X.(*ast.Ident); ok && p.Name == "wire" {
				word = s.Sel.Name
			}
		}
		return word == ""
	})
	return word
}
