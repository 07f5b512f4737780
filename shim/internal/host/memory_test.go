package host

import "testing"

func TestLetGo(t *testing.T) {
	if err := LetGo(); err != nil { // This program goes on after it.
		t.Error(err)
	}
}
