package pod

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/agentd-go/agentd/client"
	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// A call without an answer means that the guest's program is gone, unless the caller has
// given up; an answer means that it is there.
func TestLost(t *testing.T) {
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for _, tt := range []struct {
		ctx  context.Context //nolint:containedctx // A call of the test.
		err  error
		want bool
	}{
		{t.Context(), nil, false},
		{t.Context(), ttrpc.ErrClosed, true},
		{t.Context(), fmt.Errorf("read: %w", &client.LinkError{Err: errors.New("reset")}), true},
		{over, ttrpc.ErrClosed, false},
		{over, context.Canceled, false},
		{t.Context(), status.Error(codes.FailedPrecondition, "it runs"), false},
		{t.Context(), status.Error(codes.Internal, "device busy"), false},
	} {
		if got := lost(tt.ctx, tt.err); got != tt.want {
			t.Errorf("%v: %t", tt.err, got)
		}
	}
}
