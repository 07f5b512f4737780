package tree

import (
	"errors"
	"path"
	"strconv"
	"strings"
)

// Patterns are patterns of names that are left out, with all that is below them. One with a
// slash is of the whole name, the others of its last part (path.Match).
type Patterns []string

// Check returns an error that names a pattern that has no valid form.
func (p Patterns) Check() error {
	for _, pattern := range p {
		if _, err := path.Match(pattern, ""); err != nil {
			return errors.New("exclude " + strconv.Quote(pattern) + ": " + err.Error())
		}
	}
	return nil
}

// Match reports whether a name is left out. Check has seen the patterns.
//
//go:noinline
func (p Patterns) Match(name string) bool {
	for _, pattern := range p {
		what := name
		if !strings.Contains(pattern, "/") {
			what = path.Base(name)
		}
		if ok, _ := path.Match(pattern, what); ok {
			return true
		}
	}
	return false
}
