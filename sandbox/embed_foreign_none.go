//go:build !embed_foreign

package sandbox

// embeddedForeign is empty in a program that boots no machine of the other architecture,
// such as containerd's shim.
var embeddedForeign string
