package plan

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxShownValue is how much of a rejected value an [Error] repeats. A guest path
// or a mount entry of a real host fits; the console line that carries the error
// stays within the kernel's record of about 1000 bytes even when every byte has
// to be escaped as \xNN.
const maxShownValue = 128

// Error says why a configuration was rejected. Nothing has been done when a
// caller sees one, because a plan is checked as a whole before it exists.
type Error struct {
	Source Source
	// Field is the variable ("MSB_TMPFS") or the path inside the message
	// ("tmpfs_mounts[2].path").
	Field string
	// Value is the part of the field that broke the rule, whole; Error cuts it.
	Value string
	// Rule is the broken rule in words ("must be an absolute path").
	Rule string
}

// Error names the field, the value, quoted and cut to 128 bytes, and the rule.
func (e *Error) Error() string {
	return e.Field + ": " + showValue(e.Value) + ": " + e.Rule
}

// showValue quotes v, cut before a character that would pass maxShownValue.
func showValue(v string) string {
	if len(v) <= maxShownValue {
		return strconv.Quote(v)
	}
	cut := maxShownValue
	for cut > maxShownValue-utf8.UTFMax && !utf8.RuneStart(v[cut]) {
		cut--
	}
	return strconv.Quote(v[:cut]) + "..."
}

// The rules that more than one field has. Each reads as the end of a sentence
// that begins with the field.
const (
	ruleEmpty    = "must not be empty"
	ruleNUL      = "must not contain a NUL byte"
	ruleUTF8     = "must be valid UTF-8"
	ruleAbsolute = "must be an absolute path"
	ruleSlash    = "must be one path component"
	ruleControl  = "must not contain control characters"
	ruleTwice    = "must not be given twice"
)

// firstRule returns the first broken rule, or "" when all of them hold.
func firstRule(rules ...string) string {
	for _, r := range rules {
		if r != "" {
			return r
		}
	}
	return ""
}

// when returns rule if broken, and "" otherwise.
func when(broken bool, rule string) string {
	if broken {
		return rule
	}
	return ""
}

// checkText is the rule of every value of the bootstrap message that must be
// present: some bytes, none of them NUL.
func checkText(s string) string {
	return firstRule(when(s == "", ruleEmpty), checkNUL(s))
}

func checkNUL(s string) string {
	return when(strings.ContainsRune(s, 0), ruleNUL)
}

// checkAbsolute is the rule for a path that only begins at the root.
func checkAbsolute(s string) string {
	return firstRule(checkNUL(s), when(!strings.HasPrefix(s, "/"), ruleAbsolute))
}

// checkComponent is the rule for a name that becomes one component of a path.
func checkComponent(s string) string {
	return firstRule(checkText(s),
		when(s == "." || s == ".." || strings.Contains(s, "/"), ruleSlash),
		when(len(s) > maxComponent, ruleComponent))
}
