package machines

import (
	"context"
	"errors"
	"testing"
)

func TestReasonOf(t *testing.T) {
	status := 3
	for _, c := range []struct {
		asked error
		exit  *int
		init  bool
		want  string
	}{
		{asked: errCut, init: true, want: reasonKilled},
		{asked: context.DeadlineExceeded, want: reasonTimeout},
		{asked: errors.New("a word of the user's"), exit: &status, want: reasonStopped},
		{exit: &status, want: "its command ended with status 3"},
		{init: true, want: reasonInit},
		{want: reasonGuest},
	} {
		if got := reasonOf(c.asked, c.exit, c.init); got != c.want {
			t.Errorf("%+v: got %q", c, got)
		}
	}
}
