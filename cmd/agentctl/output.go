package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf16"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/agentd-go/agentd/internal/machines"
	"github.com/agentd-go/agentd/internal/trace"
)

// writeJSON writes one object, as described in docs/JSON.md.
func writeJSON(out io.Writer, v any) error {
	return encodeJSON(out, v, "  ")
}

// encodeJSON writes one value and an end of line. What could control a terminal is
// escaped, also where JSON would allow it as it is: the value is the same.
func encodeJSON(out io.Writer, v any, indent string) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", indent)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return err
	}
	_, err := io.WriteString(out, escapeJSON(b.String()))
	return err
}

// escapeJSON escapes all characters that are not printed: outside of strings JSON has
// printed ones and ends of lines alone.
func escapeJSON(text string) string {
	hidden := func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }
	if !strings.ContainsFunc(text, hidden) {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if !hidden(r) {
			b.WriteRune(r)
			continue
		}
		for _, unit := range utf16.Encode([]rune{r}) {
			fmt.Fprintf(&b, `\u%04x`, unit)
		}
	}
	return b.String()
}

// offerJSON gives a command the flag --json; see wantsJSON.
func offerJSON(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().Bool("json", false, "as JSON")
	return cmd
}

// wantsJSON reports whether a command was asked for JSON.
func wantsJSON(cmd *cobra.Command) bool {
	f := cmd.Flags().Lookup("json")
	return f != nil && f.Changed && f.Value.String() == "true"
}

// A change is a machine in the output of commands that make, start, end or remove
// machines.
type change struct {
	Name  string         `json:"name"`
	Phase machines.Phase `json:"phase"`
}

// removed replaces the phase of a removed machine.
const removed machines.Phase = "removed"

// changed returns the change of a machine.
func changed(name string) (change, error) {
	m, err := lookup(name)
	if errors.Is(err, machines.ErrNotFound) {
		return change{name, removed}, nil
	}
	if err != nil {
		return change{}, err
	}
	s, err := m.Status()
	return change{name, s.Phase}, err
}

// tellMade prints the name of a new machine, or its change as JSON.
func tellMade(name string, asJSON bool) error {
	if !asJSON {
		_, err := fmt.Println(name)
		return err
	}
	c, err := changed(name)
	if err != nil {
		return err
	}
	return writeJSON(os.Stdout, []change{c})
}

// tell prints values as JSON, or a line for each.
func tell[T any](cmd *cobra.Command, all []T, line func(T) string) error {
	if wantsJSON(cmd) {
		return writeJSON(os.Stdout, append([]T{}, all...))
	}
	for _, v := range all {
		fmt.Println(line(v))
	}
	return nil
}

// forEach calls do for each name, and continues after errors. It returns the values of
// the calls that succeed. The passed errors are none.
func forEach[T any](names []string, do func(name string) (T, error), passed ...error) (done []T, err error) {
	done = []T{}
	for _, name := range names {
		v, failed := do(name)
		if failed == nil {
			done = append(done, v)
		} else if !slices.ContainsFunc(passed, func(p error) bool { return errors.Is(failed, p) }) {
			err = errors.Join(err, failed)
		}
	}
	return done, err
}

// A removal is an object in the output of snapshot rm, volume rm and volume prune as JSON.
type removal struct {
	Name string `json:"name"`
}

// removeEach removes objects and prints their names. With force a missing one is no error.
func removeEach(cmd *cobra.Command, names []string, remove func(name string) error, force bool, missing error) error {
	if !force {
		missing = nil
	}
	gone, err := forEach(names, func(name string) (removal, error) { return removal{name}, remove(name) }, missing)
	return errors.Join(err, tell(cmd, gone, func(r removal) string { return r.Name }))
}

// table writes columns; Flush returns the errors.
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

// plain replaces characters in a guest's text that could control a terminal.
func plain(s string) string { return strings.Map(trace.Printable, s) }

// legible is plain for a text of several lines, such as a console.
func legible(s string) string {
	return strings.Map(func(r rune) rune {
		switch r {
		case '\n', '\t':
			return r
		case '\r':
			return -1
		}
		return trace.Printable(r)
	}, s)
}

// say prints a message of agentctl, which may contain a guest's text.
func say(text string) { fmt.Fprintln(os.Stderr, "agentctl: "+legible(text)) }

// ago returns how long ago a time was, in one unit.
func ago(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return span(time.Since(t)) + " ago"
}

// span formats a duration in one unit for people.
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

// color colors text on a terminal, and leaves it unchanged elsewhere.
func color(f *os.File, code, text string) string {
	if os.Getenv("NO_COLOR") != "" || !term.IsTerminal(int(f.Fd())) {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// A size is the size of a terminal.
type size struct{ columns, rows int }

// terminalSize returns the size of a terminal, or the usual one if it is unknown.
func terminalSize(f *os.File) size {
	columns, rows, err := term.GetSize(int(f.Fd()))
	if err != nil || columns == 0 || rows == 0 {
		return size{80, 24}
	}
	return size{columns, rows}
}

// barPeriod is the period of redraws, often enough for people.
const barPeriod = 100 * time.Millisecond

// showing redraws a line on standard error's terminal until the returned function is
// called with the final line.
func showing(line func(now time.Time) string) (finish func(last string)) {
	if !term.IsTerminal(int(os.Stderr.Fd())) {
		return func(string) {}
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(barPeriod)
		defer tick.Stop()
		for {
			select {
			case now := <-tick.C:
				fmt.Fprint(os.Stderr, "\r\x1b[K"+clip(line(now), terminalSize(os.Stderr).columns-1))
			case <-stop:
				return
			}
		}
	}()
	return func(last string) {
		close(stop)
		<-stopped
		fmt.Fprint(os.Stderr, "\r\x1b[K")
		if last != "" {
			fmt.Fprintln(os.Stderr, last)
		}
	}
}

// awaiting shows the reason for a wait that lasts longer than a moment.
func awaiting(what string) (finish func()) {
	const soon = time.Second
	start := time.Now()
	end := showing(func(now time.Time) string {
		if took := now.Sub(start); took >= soon {
			return fmt.Sprintf("%s (%d s)", what, int(took.Seconds()))
		}
		return ""
	})
	return func() { end("") }
}
