package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

const (
	// followPause is the pause before the first attempt to connect again; it doubles up to
	// followPauseMost. A relay that is started anew is there within a second.
	followPause     = 20 * time.Millisecond
	followPauseMost = time.Second

	// followTimeout is how long connecting may fail before Follow gives up: as long as
	// hosts give a machine to boot.
	followTimeout = time.Minute
)

// A Dialer returns a new client of a machine, such as a call of [Connect].
type Dialer func(ctx context.Context) (*Client, error)

// Follow copies the outputs of a kept command to writers, nil to discard one, until the
// command ends; its error is that of [Cmd.Wait]. If the link ends Follow connects again
// and goes on where the outputs were: each byte is written once. It gives up when the first
// attempt to connect fails, and when later nobody could be reached for a minute. When the context is done it leaves the command, which goes
// on. The view is of the start; it must not have Write, because input that was on its way
// when a link ended may be lost.
func Follow(ctx context.Context, dial Dialer, name string, v View, stdout, stderr io.Writer) error {
	if v.Write {
		return errors.New("follow: the view has Write")
	}
	f := &follower{name: name, view: v, stdout: stdout, stderr: stderr}
	var reached time.Time
	pause := followPause
	for {
		c, err := dial(ctx)
		if err == nil {
			err = f.attach(ctx, c)
			if !errors.As(err, new(*LinkError)) {
				return err
			}
			reached, pause = time.Now(), followPause
		}
		if time.Since(reached) > followTimeout { // Or never reached.
			return fmt.Errorf("follow %s: %w", name, err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
		pause = min(2*pause, followPauseMost)
	}
}

// A follower is the state of a Follow between two links.
type follower struct {
	name           string
	view           View
	stdout, stderr io.Writer
}

// attach follows the command over one link.
func (f *follower) attach(ctx context.Context, c *Client) error {
	defer func() { _ = c.Close() }() // Its link has ended, or is not needed any more.
	cmd := c.Attach(ctx, f.name, f.view)
	cmd.Stdout, cmd.Stderr = f.stdout, f.stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	err := cmd.Wait() // After all that has come was written.
	stdout, stderr := cmd.Offsets()
	f.view.Stdout, f.view.Stderr = &stdout, &stderr
	return err
}
