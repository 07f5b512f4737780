package agent_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agentd-go/agentd/internal/nstest"
	"github.com/agentd-go/agentd/wire"
)

// Every type that a host may send, in the generations that we announce, is acted on;
// the types of newer ones are refused. A switch over messages cannot be held complete by the
// linter, since both directions are one set.
func TestEveryType(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		h := newHost(t, config{generation: eight})
		messages := []wire.Message{
			&wire.ClientDisconnected{IDStart: 50, IDEndExclusive: 51}, &wire.ClockSync{UnixTimeNanos: uint64(time.Now().UnixNano())},
			sh("true"), &wire.ExecStdin{}, &wire.ExecResize{Rows: 1, Cols: 1}, &wire.ExecSignal{},
			&wire.FSRequest{Op: &wire.OpStat{Path: "/"}}, &wire.FSData{}, &wire.TCPConnect{Host: "127.0.0.1", Port: 9}, &wire.TCPData{},
			&wire.TCPEOF{}, &wire.TCPClose{}, &wire.Ping{}, &wire.Touch{},
			&wire.BulkCredit{Kind: wire.BulkTCP, Flow: wire.FlowGuestToHost},
			&wire.BulkFinish{Kind: wire.BulkTCP, Flow: wire.FlowHostToGuest},
			&wire.BulkCancel{Kind: wire.BulkTCP, Reason: wire.CancelCaller},
			&wire.KeptAttach{Name: "nobody"}, &wire.KeptConsumed{}, &wire.KeptDetach{}, &wire.KeptList{}, &wire.KeptRelease{Name: "nobody"},
		}
		others := []wire.Type{ // Of the boot, the end and generation 9's barrier: other tests send them.
			wire.TypeInitAck, wire.TypeBootstrap, wire.TypeShutdown,
			wire.TypeWorkloadFreeze, wire.TypeWorkloadThaw, wire.TypeRootDiskPrepare, wire.TypeRootDiskGrow,
		}
		here := map[wire.Type]wire.Message{}
		for _, m := range messages {
			here[m.Type()] = m
		}
		for i, info := range wire.Types() {
			if info.Direction&wire.HostToGuest == 0 || info.Since > wire.Newest || slices.Contains(others, info.Type) {
				continue
			}
			m := here[info.Type]
			if m == nil {
				t.Errorf("this test does not send %s", info.Type)
				continue
			}
			h.tell(uint32(100+i), m)
		}
		h.ping()
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, r := range h.frames {
			if e, ok := r.Message.(*wire.ProtocolError); ok && (e.Kind == wire.ErrorUnsupportedType || strings.Contains(e.Message, "newer agent")) {
				t.Errorf("the agent says %s", e.Message)
			}
		}
	})
}
