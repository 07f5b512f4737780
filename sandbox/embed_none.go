//go:build !embed_agentd

package sandbox

// embedded is empty in a build without the guest's binary.
var embedded string
