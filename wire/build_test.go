package wire

import (
	"slices"
	"strings"
)

// Pieces of CBOR for tests, in the shortest form.

func cat(parts ...string) string { return strings.Join(parts, "") }
func tstr(s string) string       { return string(appendHead(nil, majorText, uint64(len(s)))) + s }
func bstr(s string) string       { return string(appendHead(nil, majorBytes, uint64(len(s)))) + s }
func uintOf(n uint64) string     { return string(appendHead(nil, majorUnsigned, n)) }

func listOf(items ...string) string {
	return string(appendHead(nil, majorArray, uint64(len(items)))) + cat(items...)
}

// mapOf takes keys, which it writes as text, and encoded values in turn.
func mapOf(pairs ...string) string {
	pairs = slices.Clone(pairs)
	for i := 0; i < len(pairs); i += 2 {
		pairs[i] = tstr(pairs[i])
	}
	return string(appendHead(nil, majorMap, uint64(len(pairs)/2))) + cat(pairs...)
}

// ints is a string as an array of integers.
func ints(s string) string {
	var items []string
	for i := range len(s) {
		items = append(items, uintOf(uint64(s[i])))
	}
	return listOf(items...)
}

const (
	null      = "\xf6"
	undefined = "\xf7"
	yes       = "\xf5"
	no        = "\xf4"
	stop      = "\xff"
	anyMap    = "\xbf"
	anyList   = "\x9f"
	anyText   = "\x7f"
	anyBytes  = "\x5f"
)
