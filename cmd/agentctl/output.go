package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"golang.org/x/term"
)

// writeJSON writes one object, as docs/JSON.md has it.
func writeJSON(out io.Writer, v any) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// table writes columns; Flush has the errors.
func table(columns ...string) *tabwriter.Writer {
	const gap = 3
	w := tabwriter.NewWriter(os.Stdout, 0, 0, gap, ' ', 0)
	_, _ = fmt.Fprintln(w, strings.Join(columns, "\t"))
	return w
}

func row(w *tabwriter.Writer, columns ...any) {
	for i, c := range columns {
		if i > 0 {
			_, _ = fmt.Fprint(w, "\t")
		}
		_, _ = fmt.Fprint(w, plain(fmt.Sprint(c)))
	}
	_, _ = fmt.Fprintln(w)
}

// plain shows a text of a guest's without what could control a terminal.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, s)
}

// ago says in a word how long ago something was.
func ago(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return span(time.Since(t)) + " ago"
}

// span is a duration in one unit, as a person says it.
func span(d time.Duration) string {
	const day = 24 * time.Hour
	for _, u := range []struct {
		unit time.Duration
		name string
	}{{day, "day"}, {time.Hour, "hour"}, {time.Minute, "minute"}, {time.Second, "second"}} {
		if n := int(d / u.unit); n == 1 {
			return "1 " + u.name
		} else if n > 1 {
			return fmt.Sprint(n, " ", u.name, "s")
		}
	}
	return "a moment"
}

func sortedKeys[T any](m map[string]T) string {
	return strings.Join(slices.Sorted(maps.Keys(m)), ", ")
}

// Colors of a terminal (ECMA-48, 8.3.117).
const (
	green  = "32"
	yellow = "33"
	red    = "31"
)

// color colors text for a person's eyes, and leaves it for a program's.
func color(f *os.File, code, text string) string {
	if os.Getenv("NO_COLOR") != "" || !term.IsTerminal(int(f.Fd())) {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}
