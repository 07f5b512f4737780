package sandbox_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/agentd-go/agentd/sandbox"
)

// A cache of the program's own, a kernel and an image in it, and a machine of them.
func ExampleOpenCache() {
	ctx := context.Background()
	cache, err := sandbox.OpenCache("/var/cache/jobs")
	if err != nil {
		log.Print(err)
		return
	}
	if _, err := cache.FetchKernel(ctx); err != nil {
		log.Print(err)
		return
	}
	i, err := cache.UseImage(ctx, "debian.tar", sandbox.ImportOptions{
		Progress: func(done, all int64) { fmt.Println(done, "of", all, "bytes") },
	})
	if err != nil {
		log.Print(err)
		return
	}
	m, err := sandbox.Start(ctx, sandbox.Config{Cache: cache, Image: i.ID})
	if err != nil {
		log.Print(err)
		return
	}
	_ = m.Close()
}

// A machine that another program ends, and the reason that Wait returns.
func ExampleMachine_Wait() {
	ctx := context.Background()
	m, err := sandbox.Start(ctx, sandbox.Config{Socket: "/run/job.sock"})
	if err != nil {
		log.Print(err)
		return
	}
	defer func() { _ = m.Close() }() // Gives back what the machine held.
	err = m.Wait(ctx)
	end, ok := errors.AsType[*sandbox.EndError](err)
	switch {
	case err == nil:
		fmt.Println("it ended in order")
	case ok && end.Reason == sandbox.EndPanic:
		fmt.Println("its kernel panicked:", end.Message)
	default:
		fmt.Println(err)
	}
}
