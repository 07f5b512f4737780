package agent_test

import (
	"context"
	"errors"
	"iter"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/internal/nstest"
	"github.com/agentd-go/agentd/wire"
)

// A server that starts, forks and ends has one begin and one end; by IPv6 too, and beside
// connections.
func TestWatchPorts(t *testing.T) {
	nstest.Run(t, func() {
		c := udpClient(t, wire.BulkSince)
		ctx, cancel := context.WithCancelCause(t.Context())
		next, stop := iter.Pull2(c.WatchPorts(ctx, time.Millisecond))
		defer stop()
		wants := func(address string, ended bool) {
			t.Helper()
			e, err, _ := next()
			if want := (client.PortEvent{Addr: netip.MustParseAddrPort(address), Ended: ended}); err != nil || e != want {
				t.Fatalf("%+v, %v, want %+v", e, err, want)
			}
		}
		for _, at := range []string{"127.0.0.1:0", "[::1]:0", "[::]:0", "0.0.0.0:0"} {
			network := "tcp"
			if at[0] == '0' {
				network = "tcp4"
			}
			l, err := net.Listen(network, at)
			if err != nil {
				t.Fatal(err)
			}
			wants(l.Addr().String(), false)
			child, err := as[*net.TCPListener](t, l).File() // As a child has it after fork.
			if err != nil {
				t.Fatal(err)
			}
			n, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			address := l.Addr().String()
			_ = l.Close()
			_ = child.Close()
			wants(address, true)
			_ = n.Close()
		}
		why := errors.New("enough")
		time.AfterFunc(20*time.Millisecond, func() { cancel(why) })
		if e, err, _ := next(); !errors.Is(err, why) && !errors.Is(err, context.Canceled) {
			t.Errorf("%+v, %v", e, err)
		}
	})
}
