package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/agentd-go/agentd/sandbox"
)

// many starts three machines at once, each with a job of its own.
func many(ctx context.Context) error {
	const machines = 3
	ends := make(chan error)
	for n := range machines {
		go func() { ends <- job(ctx, fmt.Sprint("job-", n)) }()
	}
	var all []error
	for range machines {
		all = append(all, <-ends)
	}
	return errors.Join(all...)
}

func job(ctx context.Context, name string) (err error) {
	m, err := sandbox.Start(ctx, sandbox.Config{Hostname: name, MemoryMiB: 256})
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	out, err := m.Client().CommandContext(ctx, "uname", "-n").Output()
	if err == nil && strings.TrimSpace(string(out)) != name {
		err = fmt.Errorf("%s calls itself %q", name, out)
	}
	return err
}
