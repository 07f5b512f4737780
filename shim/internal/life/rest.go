package life

import (
	"context"
	"time"

	"github.com/containerd/ttrpc"
)

// restTime is without a call. It is longer than the steps of a container's start are
// apart, so that none of them pays for what it needs again.
const restTime = 2 * time.Second

// A rest does something once after each time in which there were calls.
type rest struct{ timer *time.Timer }

func newRest(f func()) rest { return rest{time.AfterFunc(restTime, f)} }

// intercept is the server's: calls that last, as Wait does, keep nobody from resting.
func (r rest) intercept(ctx context.Context, unmarshal ttrpc.Unmarshaler, _ *ttrpc.UnaryServerInfo, call ttrpc.Method) (any, error) {
	defer r.timer.Reset(restTime)
	r.timer.Reset(restTime)
	return call(ctx, unmarshal)
}
