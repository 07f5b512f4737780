package agent_test

import (
	"bytes"
	"context"
	"io"
	"testing"
	"time"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/internal/guest/agent"
	"github.com/agentd-go/agentd/internal/nstest"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

// The client keeps to the agent's credit: a flood arrives whole, and a command that does
// not read can still be killed and delays nobody.
func TestClientKeepsToCredit(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		port, ours := link(t)
		h := &host{t: t, end: make(chan served, 1)}
		h.serve(agent.Open(port), port, config{generation: nine})
		from := frame.NewReader(ours)
		f, err := from.Next()
		if err != nil {
			t.Fatal(err)
		}
		ready, ok := h.open(f).Message.(*wire.Ready)
		if !ok || ready.WorkloadTransportBarrierVersion == nil {
			t.Fatalf("%+v", ready)
		}
		c := client.New(&client.Greeting{Link: ours, Ready: *ready, Generation: nine}, client.IDs{})
		t.Cleanup(func() { _ = c.Close() })
		flood := bytes.Repeat([]byte("0123456789abcdef"), 3<<20) // 48 MiB, more than the credit.
		count := c.CommandContext(t.Context(), "wc", "-c")
		count.Stdin = bytes.NewReader(flood)
		out, err := count.Output()
		if err != nil || string(bytes.TrimSpace(out)) != "50331648" {
			t.Errorf("%q, %v", out, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		deaf := c.CommandContext(ctx, "sleep", "1000")
		in, err := deaf.StdinPipe()
		if err == nil {
			err = deaf.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		stuck := make(chan error, 1)
		go func() {
			_, err := io.Copy(in, bytes.NewReader(flood))
			stuck <- err
		}()
		for range 20 {
			pinging, stop := context.WithTimeout(t.Context(), patience)
			if _, err := c.Ping(pinging); err != nil {
				t.Fatal(err)
			}
			stop()
		}
		select {
		case err := <-stuck:
			t.Errorf("48 MiB went to a command that does not read: %v", err)
		case <-time.After(200 * time.Millisecond): // It waits, which only time can show.
		}
		cancel()
		if err := deaf.Wait(); err == nil {
			t.Error("the command was not killed")
		}
		if err := <-stuck; err == nil {
			t.Error("all of it was written")
		}
		if out, err := c.CommandContext(t.Context(), "echo", "on").Output(); err != nil || string(out) != "on\n" {
			t.Errorf("after it: %q, %v", out, err)
		}
	})
}
