package life

import (
	"errors"
	"testing"
	"time"
)

func TestAwaitAlarm(t *testing.T) {
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		rings int           // The look at which the alarm has gone off; 0 for never.
		err   error         // Of the first look.
		step  time.Duration // Of the clock between two looks.
		want  error
	}{
		"at once":                  {rings: 1},
		"a slow host":              {rings: 1000, step: time.Millisecond},
		"a coarse clock's tick":    {rings: standstillLooks},
		"a host that paused":       {rings: 3, step: time.Minute},
		"the clock stands":         {want: errStandstill},
		"the clock crawls":         {step: time.Nanosecond, want: errStandstill},
		"the clock goes on alone":  {step: time.Microsecond, want: errNoTimer},
		"a timer that is not one":  {err: broken, want: broken},
		"a pause is no proof":      {rings: int(clockTimeout / clockStep), step: time.Hour},
		"a clock that stumbles on": {step: time.Hour, want: errNoTimer},
	} {
		t.Run(name, func(t *testing.T) {
			looks, at := 0, time.Duration(0)
			err := awaitAlarm(func() (bool, error) {
				looks++
				return looks == c.rings, c.err
			}, func() time.Duration {
				at += c.step
				return at
			})
			if !errors.Is(err, c.want) {
				t.Errorf("after %d looks: %v, want %v", looks, err, c.want)
			}
		})
	}
}
