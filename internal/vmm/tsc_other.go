//go:build !amd64

package vmm

// MeasureTSC returns 0: see [Machine.TSCkHz].
func MeasureTSC() int { return measureTSC() }

// measureTSC knows nothing: an emulated counter has no relation to this CPU's.
func measureTSC() int { return 0 }
