package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"syscall"

	"github.com/agentd-go/agentd/client"
)

// MakeDir makes the working directory of commands if it is missing, with its parents
// (root's, 0755), as container tools do: some images name a directory that none of
// their layers has. [Start] does so for Config.Dir and for the image's directory. The
// directory of a single command ([client.Cmd].Dir) must exist. "" and "/" always exist.
// The error begins with the directory.
func MakeDir(ctx context.Context, c *client.Client, dir string) error {
	if path.Clean("/"+dir) == "/" {
		return nil
	}
	const perm = 0o755
	err := c.MkdirAll(ctx, dir, perm)
	if failed, ok := errors.AsType[*fs.PathError](err); ok {
		err = failed.Err
	}
	if errors.Is(err, syscall.EROFS) {
		return fmt.Errorf("working directory %s: it is not there, and in a read-only root it cannot be made: mount something there, such as a tmpfs: %w", dir, err)
	}
	if err != nil {
		return fmt.Errorf("working directory %s: it is not there and cannot be made: %w", dir, err)
	}
	return nil
}
