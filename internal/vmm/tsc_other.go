//go:build !amd64

package vmm

// MeasureTSC returns 0: see [Machine.TSCkHz].
func MeasureTSC() int { return measureTSC() }

// measureTSC returns 0: an emulated counter has no relation to this CPU's.
func measureTSC() int { return 0 }
