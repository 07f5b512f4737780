package client_test

import (
	"context"
	"errors"
	"log"
	"net"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/wire"
)

// A host that has the port of a machine freezes it, copies its disks, and lets it go on.
func ExampleClient_Freeze() {
	ctx := context.Background()
	port, err := net.Dial("unix", "/run/monitor/agent.sock") // Of the monitor.
	if err != nil {
		log.Fatal(err)
	}
	c, err := client.Boot(ctx, port, client.Handshake{Bootstrap: &wire.Bootstrap{StoredCredit: true}})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	frozen, err := c.Freeze(ctx, "backup-1", "path:/srv")
	if err != nil {
		log.Print(err) // Everything goes on.
		return
	}
	if !frozen.Synced {
		log.Print("/srv is not written back")
	}
	// Copy the disks here.
	if err := c.Thaw(ctx, "backup-1", client.ThawContinue); err != nil {
		log.Print(err)
	}
}

// The host makes the disk of a machine larger, and then the guest its file system.
func ExampleClient_GrowRoot() {
	ctx := context.Background()
	c, err := client.Connect(ctx, "/run/machine.sock")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	const size = 4 << 30
	if _, err := c.CheckRootGrowth(ctx, size); err != nil {
		log.Print(err) // Before anything has changed.
		return
	}
	// Make the disk larger here.
	disk, err := c.GrowRoot(ctx, size)
	var refused *client.ProtocolError
	switch {
	case errors.As(err, &refused) && refused.Kind == client.KindUnavailable:
		log.Printf("the guest cannot: %s", refused.Message)
	case err != nil:
		log.Print(err)
	default:
		log.Printf("the file system has %d bytes", disk.FileSystem)
	}
}
