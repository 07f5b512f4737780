//go:build !amd64

package vmm

// measureTSC returns 0: an emulated counter has no relation to this CPU's.
func measureTSC() int { return 0 }
