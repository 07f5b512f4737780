package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"text/template"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

// formatHelp is the help of flags that take a template.
const formatHelp = "a `TEMPLATE` of Go, as containers' tools have it, of the fields in docs/JSON.md or Docker's names; or json"

// A format is a value of --format: json, a template for each object, or "table" and a
// template, which adds a header line.
type format struct {
	json, table bool
	template    *template.Template
}

// parseFormat reads a format. \t and \n in it are a tab and an end of line.
func parseFormat(text string) (f format, err error) {
	if text == "json" {
		return format{json: true}, nil
	}
	text, f.table = strings.CutPrefix(text, "table ")
	text = strings.NewReplacer(`\t`, "\t", `\n`, "\n").Replace(text)
	f.template, err = template.New("").Option("missingkey=error").Funcs(templateFuncs).Parse(text)
	if err != nil {
		return f, misuse(fmt.Errorf("--format: %s", templateError(err)))
	}
	return f, nil
}

// templateFuncs are Docker's template functions.
var templateFuncs = template.FuncMap{
	"json":  jsonText,
	"join":  joinAny,
	"split": strings.Split,
	"lower": strings.ToLower,
	"upper": strings.ToUpper,
	"title": func(s string) string {
		r, n := utf8.DecodeRuneInString(s)
		return string(unicode.ToTitle(r)) + s[n:]
	},
	"pad": func(s string, before, after int) string {
		if s == "" {
			return ""
		}
		return strings.Repeat(" ", max(0, before)) + s + strings.Repeat(" ", max(0, after))
	},
	"truncate": func(s string, n int) string { return string([]rune(s)[:max(0, min(n, utf8.RuneCountInString(s)))]) },
}

func jsonText(v any) (string, error) {
	var b strings.Builder
	err := encodeJSON(&b, v, "")
	return strings.TrimSpace(b.String()), err
}

// joinAny joins a list, which may be the first or the last argument.
func joinAny(a, b any) string {
	sep, ok := b.(string)
	list := a
	if !ok {
		sep, list = fmt.Sprint(a), b
	}
	var words []string
	switch l := list.(type) {
	case []string:
		words = l
	case []any:
		for _, v := range l {
			words = append(words, fmt.Sprint(v))
		}
	}
	return strings.Join(words, sep)
}

// templateError returns a template's error without the prefix of package text/template.
func templateError(err error) string {
	text := strings.TrimPrefix(err.Error(), "template: ")
	return strings.TrimLeft(text, ":")
}

// each writes an object for each view. A view has Docker's names as methods; other
// names are the fields of its JSON. head is the header of a table, nil for none.
func (f format) each(out io.Writer, views []any, head any) error {
	if !f.table {
		return f.lines(out, views)
	}
	const gap = 3
	w := tabwriter.NewWriter(out, 0, 0, gap, ' ', 0)
	if err := f.lines(w, append([]any{head}, views...)); err != nil {
		return err
	}
	return w.Flush()
}

// printEach writes what a format makes of each value's view; head is the header of a table, nil for none.
func printEach[T any](out io.Writer, text string, all []T, view func(T) any, head any) error {
	as, err := parseFormat(text)
	if err != nil {
		return err
	}
	views := make([]any, len(all))
	for i, v := range all {
		views[i] = view(v)
	}
	return as.each(out, views, head)
}

// offerDetails completes a command that prints all about what its words name: as JSON,
// or as a template has it.
func offerDetails[T any](cmd *cobra.Command, find func(name string) (T, error), view func(T) any) *cobra.Command {
	var text string
	cmd.RunE = func(_ *cobra.Command, names []string) error {
		all, err := collect(names, find)
		if err != nil {
			return err
		}
		if text == "" {
			return writeJSON(os.Stdout, all)
		}
		return printEach(os.Stdout, text, all, view, nil)
	}
	cmd.Flags().StringVarP(&text, "format", "f", "", formatHelp)
	cmd.Flags().Bool("json", true, "accepted for compatibility; the output is always JSON without -f")
	return cmd
}

func (f format) lines(out io.Writer, views []any) error {
	for _, v := range views {
		text, err := f.execute(v)
		if err != nil {
			return fmt.Errorf("--format: %s", templateError(err))
		}
		if _, err := fmt.Fprintln(out, text); err != nil {
			return err
		}
	}
	return nil
}

func (f format) execute(view any) (string, error) {
	if f.json {
		return jsonText(view)
	}
	var b strings.Builder
	err := f.template.Execute(&b, view)
	if err == nil {
		return legible(b.String()), nil
	}
	text, failed := jsonText(view)
	if failed != nil {
		return "", failed
	}
	var fields any
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber() // Keeps sizes as whole numbers.
	if failed := d.Decode(&fields); failed != nil {
		return "", failed
	}
	b.Reset()
	if f.template.Execute(&b, fields) == nil {
		return legible(b.String()), nil
	}
	return "", err
}
