package plan

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxShownValue is the number of bytes of a rejected value that an [Error] repeats.
// Guest paths and mount entries of real hosts fit. The console line with the error fits
// the kernel's record of about 1000 bytes even if every byte is escaped as \xNN.
const maxShownValue = 128

// Error says why a configuration was rejected. It has had no effect, because a
// configuration is checked completely before there is a plan.
type Error struct {
	Source Source
	// Field is the variable ("MSB_TMPFS") or the path inside the message
	// ("tmpfs_mounts[2].path").
	Field string
	// Value is the complete part of the field that broke the rule. Error shortens it.
	Value string
	// Rule is the broken rule in words ("must be an absolute path").
	Rule string
}

// Error returns the field, the value (quoted, and shortened to 128 bytes) and the rule.
func (e *Error) Error() string {
	return e.Field + ": " + showValue(e.Value) + ": " + e.Rule
}

// showValue quotes v. It shortens v to maxShownValue bytes, between two characters.
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

// The rules of more than one field. Each is the end of a sentence that begins with the
// field.
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

// checkText is the rule for a required value of the bootstrap message: at least one
// byte, and no NUL.
func checkText(s string) string {
	return firstRule(when(s == "", ruleEmpty), checkNUL(s))
}

func checkNUL(s string) string {
	return when(strings.ContainsRune(s, 0), ruleNUL)
}

// checkAbsolute is the rule for a path that must only be absolute.
func checkAbsolute(s string) string {
	return firstRule(checkNUL(s), when(!strings.HasPrefix(s, "/"), ruleAbsolute))
}

// checkComponent is the rule for a name that becomes one component of a path.
func checkComponent(s string) string {
	return firstRule(checkText(s),
		when(s == "." || s == ".." || strings.Contains(s, "/"), ruleSlash),
		when(len(s) > maxComponent, ruleComponent))
}
