//go:build !embed_agentd

package sandbox

// embedded and embeddedForeign are empty in a build without the guest's binaries.
var embedded, embeddedForeign []byte
