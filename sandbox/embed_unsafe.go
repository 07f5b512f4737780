package sandbox

import "unsafe"

// bytesOf returns the bytes of a string without a copy: nobody may write to them. What is
// embedded is a string because the linker puts the content of a byte slice among the
// data that a program can write to, whose pages a long-lived process cannot give back.
func bytesOf(s string) []byte {
	return unsafe.Slice(unsafe.StringData(s), len(s)) //nolint:gosec // The only way without a copy.
}
