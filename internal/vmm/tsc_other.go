//go:build !amd64

package vmm

// measureTSC knows nothing: an emulated counter has no relation to this CPU's.
func measureTSC() int { return 0 }
