package host

import "testing"

func TestLetGo(t *testing.T) {
	if err := LetGo(); err != nil { // This program goes on after it.
		t.Error(err)
	}
}

func TestTotalMemory(t *testing.T) {
	if n, err := TotalMemory(); n < 64 || err != nil {
		t.Errorf("%d MiB, %v", n, err)
	}
}
