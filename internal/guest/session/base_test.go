package session

import (
	"io"
	"testing"

	"github.com/agentd-go/agentd/internal/mux"
	"github.com/agentd-go/agentd/wire"
)

// ends is the owner of a session, and counts.
type ends struct{ forgotten, released int }

func (e *ends) Forget(uint32, Session)  { e.forgotten++ }
func (e *ends) Release(uint32, Session) { e.released++ }

// Done closes with the end, whether it is asked for before or after that.
func TestDone(t *testing.T) {
	h := &Host{Generation: wire.Newest, Writer: mux.NewWriter(io.Discard, 0)}
	go func() { _ = h.Writer.Run() }()
	defer h.Writer.Close()
	for _, early := range []bool{true, false} {
		var owner ends
		b := h.NewBase(1, &owner, nil, nil)
		var done <-chan struct{}
		if early {
			done = b.Done()
			select {
			case <-done:
				t.Fatal("done before its end")
			default:
			}
		}
		for range 2 {
			b.End(nil, &wire.Pong{})
		}
		<-b.Done()
		if early {
			<-done
		}
		if owner.forgotten != 1 || owner.released != 1 {
			t.Errorf("ended %+v times, want once", owner)
		}
	}
}
