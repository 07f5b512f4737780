package main

import (
	"context"
	"fmt"
	"time"

	"github.com/agentd-go/agentd/client"
)

// A step is one thing that the tour shows.
type step[T any] struct {
	name string
	do   func(T) error
}

func (s step[T]) show(with T) error {
	start := time.Now()
	if err := s.do(with); err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	fmt.Printf("ok  %-38s %.1f s\n", s.name, time.Since(start).Seconds())
	return nil
}

// A visit is a step in a machine.
type visit struct {
	ctx context.Context
	c   *client.Client
}
