package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/agentd-go/agentd/internal/transfer"
	"github.com/agentd-go/agentd/sandbox"
)

// imageFlags are the flags of commands that import images.
type imageFlags struct {
	platform string
	pull     string
}

func (f *imageFlags) register(flags *pflag.FlagSet) {
	f.registerPlatform(flags)
	flags.StringVar(&f.pull, "pull", string(sandbox.PullMissing), "when to ask a registry for the image: always, missing or never")
}

func (f *imageFlags) registerPlatform(flags *pflag.FlagSet) {
	flags.StringVar(&f.platform, "platform", "", "platform of the machine and of a multi-platform image: `OS/ARCHITECTURE[/VARIANT]`, such as linux/arm64 or linux/amd64/v2 (default: this host's, and the best variant that machines here run)")
}

// options checks the flags for a machine with that accelerator, which may have no
// image.
func (f *imageFlags) options(accel string, isImage bool) (o sandbox.ImportOptions, err error) {
	o = sandbox.ImportOptions{Platform: f.platform, Pull: sandbox.Pull(f.pull), Accel: sandbox.Accel(accel)}
	if err := o.Check(); err != nil {
		return o, fmt.Errorf("--%w", err)
	}
	switch {
	case isImage:
	case o.Pull == sandbox.PullAlways || o.Pull == sandbox.PullNever:
		return o, fmt.Errorf("--pull %s: no image is named, and the small root is not pulled", o.Pull)
	}
	return o, nil
}

// machine returns the platform of the machine, without a variant; "" is this host's.
func (f *imageFlags) machine() (string, error) {
	if f.platform == "" {
		return "", nil
	}
	p, err := sandbox.ParsePlatform(f.platform)
	switch {
	case err != nil:
		return "", fmt.Errorf("--%w", err)
	case p == sandbox.HostPlatform:
		return "", nil
	}
	return p, nil
}

func newImageImport() *cobra.Command {
	var f imageFlags
	cmd := &cobra.Command{
		Use:   "import SOURCE [NAME]",
		Short: "Import an image",
		Long: `Import an image into the cache. SOURCE is one of

  an archive of 'docker save', or an OCI archive
  an OCI layout: a directory with index.json
  FILE:NAME or DIRECTORY:NAME: one image of such an archive or layout
  an archive of a root (tar), as 'docker export' writes
  a directory that is a root; file systems mounted in it are left out
  a disk image with EROFS, ext4, XFS or btrfs on it, without partitions
  a reference to a registry, such as REGISTRY/NAME:TAG
  -: such an archive or disk on standard input; ./- is a file

Archives may be compressed (gzip, zstd, xz). A file's type is detected by its content,
not by its name. If SOURCE is both a file and a reference, the file is used. NAME
becomes the image's name. Without NAME, images keep the names in the archive, layout or
reference, and all images of an archive or layout are imported. With --json each image
is one value.
` + exitHelp(plainExit),
		Example: `  agentctl image import debian.tar debian
  agentctl image import all.tar:debian:12
  agentctl image import ./rootfs build:1
  docker save debian:12 | agentctl image import -`,
		RunE: func(cmd *cobra.Command, args []string) error {
			name := ""
			if len(args) > 1 {
				name = args[1]
			}
			return f.take(cmd, args[0], name)
		},
	}
	f.registerPlatform(cmd.Flags())
	cmd.Flags().Bool("json", false, "print the image, as 'image inspect' does")
	return cmd
}

// newPull makes 'pull', which is a command at the top level, as in container tools, and
// a subcommand of image.
func newPull() *cobra.Command {
	f := imageFlags{pull: string(sandbox.PullAlways)}
	var quiet bool
	cmd := &cobra.Command{
		Use:   "pull REFERENCE",
		Short: "Fetch an image from a registry",
		Long: `Fetch an image from a registry, such as REGISTRY/NAME:TAG, even if the cache has an
image of that name. The reference becomes the image's name. Layers that were fetched
before are not fetched again. The credentials of 'docker login' are used.
` + exitHelp(plainExit),
		Example: `  agentctl pull debian:12
  agentctl pull --platform linux/amd64/v2 registry.example.org/app:1`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if args[0] == byStream {
				return misuse(errors.New("pull: -: want a reference; 'agentctl image import -' reads standard input"))
			}
			cmd.SetContext(quietly(cmd.Context(), quiet))
			return f.take(cmd, args[0], "")
		},
	}
	f.registerPlatform(cmd.Flags())
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print only errors")
	cmd.Flags().Bool("json", false, "print the image, as 'image inspect' does")
	return cmd
}

// byStream is the source that an archive's bytes come from one after the other.
const byStream = "-"

// take imports the images of a source and prints them.
func (f *imageFlags) take(cmd *cobra.Command, source, name string) error {
	o, err := f.options("", true)
	if err != nil {
		return err
	}
	o.Name = name
	if source == byStream || strings.HasPrefix(source, byStream+":") {
		if term.IsTerminal(int(os.Stdin.Fd())) {
			return misuse(fmt.Errorf("%s: standard input is a terminal: name a file, or redirect one with <FILE", pathOf(cmd)))
		}
		o.Input = os.Stdin
	}
	return untilSignal(cmd.Context(), func(ctx context.Context) error {
		c, err := sandbox.OpenCache("")
		if err != nil {
			return err
		}
		quiet, end := isQuiet(ctx), func() {}
		if !quiet {
			end = showImport(&o)
		}
		all, err := c.ImportImages(ctx, source, o)
		end()
		for _, i := range all {
			switch {
			case wantsJSON(cmd):
				err = errors.Join(err, writeJSON(os.Stdout, i))
			case !quiet:
				fmt.Fprintln(os.Stderr, "imported", i.ID, plain(strings.Join(i.Names, " ")))
			}
		}
		return err
	})
}

func newImageTag() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "tag IMAGE NAME",
		Short: "Give an image one more name",
		Long: `Give an image of the cache another name, NAME[:TAG]. An image that had the name before
loses it. IMAGE is a name, or the first eight or more digits of an ID.
` + exitHelp(plainExit),
		Example: "  agentctl image tag debian:12 base",
		RunE: func(cmd *cobra.Command, args []string) error {
			i, err := inCache(func(c *sandbox.Cache) (sandbox.Image, error) { return c.TagImage(args[0], args[1]) })
			if err == nil && wantsJSON(cmd) {
				err = writeJSON(os.Stdout, i)
			}
			return err
		},
	}
	return offerJSON(cmd)
}

// findOrImport finds an image. If it must import the image, it tells the user, because
// that takes time.
func findOrImport(ctx context.Context, nameOrSource string, o sandbox.ImportOptions) (sandbox.Image, error) {
	if nameOrSource == byStream {
		return sandbox.Image{}, errors.New("image -: standard input is the command's; 'agentctl image import - NAME' imports it first")
	}
	c, err := sandbox.OpenCache("")
	if err != nil {
		return sandbox.Image{}, err
	}
	_, err = c.FindImage(nameOrSource)
	if err != nil && !errors.Is(err, sandbox.ErrImageNotFound) {
		return sandbox.Image{}, err
	}
	if there := err == nil && o.Pull != sandbox.PullAlways; there || isQuiet(ctx) {
		return c.UseImage(ctx, nameOrSource, o)
	}
	if o.Pull != sandbox.PullNever {
		say("importing " + nameOrSource)
	}
	defer showImport(&o)()
	return c.UseImage(ctx, nameOrSource, o)
}

// showImport draws the progress of imports with the options until end is called.
func showImport(o *sandbox.ImportOptions) (end func()) {
	var done, all atomic.Int64
	start := time.Now()
	finish := showing(func(now time.Time) string {
		if all.Load() == 0 {
			start = now // The decompression of an archive before the first layer has no rate.
		}
		return transfer.BytesLine(done.Load(), all.Load(), now.Sub(start), terminalSize(os.Stderr).columns-1)
	})
	o.Notes = say
	o.Progress = func(d, a int64) {
		done.Store(d)
		all.Store(a)
	}
	return func() { finish("") }
}
