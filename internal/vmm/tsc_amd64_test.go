package vmm

import "testing"

func TestMeasureTSCRepeats(t *testing.T) {
	first, second := measureTSC(), measureTSC()
	if off := first - second; first <= 0 || off > first/1000 || off < -first/1000 {
		t.Errorf("%d kHz, then %d kHz", first, second)
	}
}
