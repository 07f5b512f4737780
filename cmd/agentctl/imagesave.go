package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/agentd-go/agentd/sandbox"
)

func newImageSave() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "save [-o FILE] IMAGE...",
		Short: "Write images to an archive",
		Long: `Write images to an archive, as 'docker save' does. 'docker load' and 'image import' read
it. Each image keeps the name by which you ask for it; an image that you name by its ID
has no name in the archive. An image becomes one layer with the configuration that
'image inspect' shows, so its ID changes. Sockets are left out, and reported. An image
that is a disk with ext4, XFS or btrfs is refused; you can copy its file instead.
` + exitHelp(plainExit),
		Example: `  agentctl image save -o debian.tar debian:12
  agentctl image save web db | zstd >both.tar.zst`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return untilSignal(cmd.Context(), func(ctx context.Context) error {
				save := func(to io.Writer) error {
					c, err := sandbox.OpenCache("")
					if err != nil {
						return err
					}
					return c.SaveImages(ctx, to, say, args...)
				}
				return writeOutput(file, save)
			})
		},
	}
	cmd.Flags().StringVarP(&file, "output", "o", "", "`file` to write instead of standard output")
	return cmd
}

// writeOutput writes the file of -o, or to standard output for "" and "-" if that is no
// terminal.
func writeOutput(file string, write func(io.Writer) error) error {
	if file != "" && file != "-" {
		return writeWhole(file, write)
	}
	if term.IsTerminal(int(os.Stdout.Fd())) {
		return errors.New("standard output is a terminal: name a file with -o")
	}
	return write(os.Stdout)
}

// writeWhole writes a file that gets its name only when it is complete.
func writeWhole(path string, write func(io.Writer) error) error {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		if info.IsDir() {
			return fmt.Errorf("%s: a directory; name a file", path)
		}
		return writeInto(path, write) // A device or a pipe, which is not replaced.
	}
	part := fmt.Sprintf("%s.part%d", path, os.Getpid())
	f, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666) //nolint:gosec // The user's umask decides, as for the shell's own >.
	if err != nil {
		return err
	}
	if err = write(f); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(part, path)
	}
	if err != nil {
		_ = os.Remove(part)
	}
	return err
}

func writeInto(path string, write func(io.Writer) error) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}
