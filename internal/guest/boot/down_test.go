package boot

import (
	"testing"
	"time"
)

// An undo that hangs delays neither the next ones nor the machine's end.
func TestInTurn(t *testing.T) {
	hang := make(chan struct{})
	t.Cleanup(func() { close(hang) })
	order := make(chan int, 3)
	start := time.Now()
	if inTurn([]func(){
		func() { order <- 1 },
		func() { order <- 2; <-hang },
		func() { order <- 3 },
	}, undoWait+undoWait/2) {
		t.Error("what hangs was done")
	}
	if took := time.Since(start); took < undoWait || took > 5*undoWait {
		t.Errorf("it took %v", took)
	}
	for want := 1; want <= 3; want++ {
		select {
		case got := <-order:
			if got != want {
				t.Errorf("%d was begun, want %d", got, want)
			}
		default:
			t.Fatalf("%d was not begun", want)
		}
	}
	if !inTurn([]func(){func() {}, func() {}}, time.Minute) {
		t.Error("what does not hang is taken for hanging")
	}
}
