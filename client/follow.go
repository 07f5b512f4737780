package client

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// Follow copies the outputs of a kept command to writers, nil to discard one, until the
// command ends; its error is that of [Cmd.Wait]. If the link ends Follow connects again
// and goes on where the outputs were: each byte is written once. It gives up when the first
// attempt to connect fails, and when later nobody could be reached for a minute. When the
// context is done it leaves the command, which goes on. The view is of the start; it must not
// have Write, because Follow has no input: see [Reconnector.Attach].
func Follow(ctx context.Context, dial Dialer, name string, v View, stdout, stderr io.Writer) error {
	if v.Write {
		return errors.New("follow: the view has Write")
	}
	r, err := Reconnect(ctx, dial, Retry{})
	if err != nil {
		return fmt.Errorf("follow %s: %w", name, err)
	}
	defer func() { _ = r.Close() }() // The command has ended, or nobody could be reached.
	cmd := r.Attach(ctx, name, v)
	cmd.Stdout, cmd.Stderr = stdout, stderr
	return cmd.Run()
}
