package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/agentd-go/agentd/internal/transfer"
	"github.com/agentd-go/agentd/sandbox"
)

// none is printed in place of a missing name, tag or digest.
const none = "<none>"

// imageListFlags are the flags of image ls.
type imageListFlags struct {
	quiet, whole, digests bool
	filters               []string
	format                string
}

func newImageList() *cobra.Command {
	f := imageListFlags{}
	cmd := &cobra.Command{
		Use:   "ls [flags] [REPOSITORY[:TAG]]",
		Short: "List the images, the newest import first",
		Long: `List the images, the newest import first, with a line for each name. An image that was
only run has no name. With a repository or a name, only its images are listed. CREATED
is the time at which the image was built, or imported if the image does not say that.
SIZE is the size of the file with the image's file system.

A filter is reference=PATTERN (a name, in which * is any text without a slash),
dangling=true|false, label=KEY[=VALUE], before=IMAGE or since=IMAGE.
` + exitHelp(plainExit),
		Example: `  agentctl image ls -q -f dangling=true
  agentctl image ls --format '{{.Repository}}:{{.Tag}} {{.Size}}'`,
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, name := range args {
				f.filters = append(f.filters, "reference="+name)
			}
			return f.list(os.Stdout, wantsJSON(cmd))
		},
	}
	flags := cmd.Flags()
	flags.BoolVarP(&f.quiet, "quiet", "q", false, "IDs only")
	flags.BoolVar(&f.whole, "no-trunc", false, "print whole IDs")
	flags.BoolVar(&f.digests, "digests", false, "show the digests by which images are named")
	flags.StringArrayVarP(&f.filters, "filter", "f", nil, "only images with `KEY=VALUE`: reference, dangling, label, before or since")
	flags.StringVar(&f.format, "format", "", formatHelp)
	flags.Bool("json", false, "print a list in the form of 'image inspect'")
	flags.BoolP("all", "a", false, "accepted for compatibility; all images are always listed")
	_ = flags.MarkHidden("all") // Cannot fail: the flag was just defined.
	return cmd
}

func (f *imageListFlags) list(out io.Writer, asJSON bool) error {
	all, err := inCache((*sandbox.Cache).Images)
	if err != nil {
		return err
	}
	lines, err := filterBy(imageLines(all), f.filters, imageFilter)
	if err != nil {
		return err
	}
	for i := range lines {
		lines[i].whole = f.whole
	}
	view := func(v imageView) any { return v }
	switch {
	case asJSON:
		return writeJSON(out, imagesOf(lines))
	case f.format != "":
		return printEach(out, f.format, lines, view, imageHead{})
	case f.quiet:
		for _, i := range imagesOf(lines) {
			if _, err := fmt.Fprintln(out, imageView{Image: i, whole: f.whole}.ID()); err != nil {
				return err
			}
		}
		return nil
	}
	columns := imageColumns
	if f.digests {
		columns = imageDigests
	}
	return printEach(out, columns, lines, view, imageHead{})
}

// The columns of image ls without --format.
const (
	imageColumns = `table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.Platform}}\t{{.CreatedSince}}\t{{.Size}}`
	imageDigests = `table {{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.Platform}}\t{{.CreatedSince}}\t{{.Size}}`
)

// An imageView is one name of an image for a template. It has Docker's names as
// methods; its JSON is an object of image ls --json.
type imageView struct {
	sandbox.Image
	name  string // "" for none.
	whole bool   // Print whole IDs.
}

// imageLines returns a line for each name.
func imageLines(all []sandbox.Image) (lines []imageView) {
	for _, i := range all {
		names := i.Names
		if len(names) == 0 {
			names = []string{""}
		}
		for _, n := range names {
			lines = append(lines, imageView{Image: i, name: n})
		}
	}
	return lines
}

// imagesOf returns the images of lines, each once.
func imagesOf(lines []imageView) []sandbox.Image {
	all := []sandbox.Image{}
	for _, l := range lines {
		if !slices.ContainsFunc(all, func(i sandbox.Image) bool { return i.ID == l.Image.ID }) {
			all = append(all, l.Image)
		}
	}
	return all
}

// splitName splits a name: REPOSITORY[:TAG][@DIGEST].
func splitName(name string) (repository, tag, digest string) {
	repository, digest, _ = strings.Cut(name, "@")
	if i := strings.LastIndexByte(repository, ':'); i > strings.LastIndexByte(repository, '/') {
		repository, tag = repository[:i], repository[i+1:]
	}
	return orNone(repository), orNone(tag), orNone(digest)
}

func orNone(s string) string {
	if s == "" {
		return none
	}
	return s
}

// MarshalJSON writes the image.
func (v imageView) MarshalJSON() ([]byte, error) { return json.Marshal(v.Image) }

// ID returns the short ID, or the whole one.
func (v imageView) ID() string {
	if v.whole {
		return v.Image.ID
	}
	return shortID(v.Image.ID)
}

// Repository is the name without its tag.
func (v imageView) Repository() string { r, _, _ := splitName(v.name); return r }

// Tag is the part after the colon of a name.
func (v imageView) Tag() string { _, t, _ := splitName(v.name); return t }

// Digest is the part after the @ of a name.
func (v imageView) Digest() string { _, _, d := splitName(v.name); return d }

func (v imageView) created() time.Time {
	if v.Config.Created.Unix() <= 0 { // The image does not state it.
		return v.Imported
	}
	return v.Config.Created
}

// CreatedAt is when it was built, or imported.
func (v imageView) CreatedAt() string { return v.created().Format("2006-01-02 15:04:05 -0700 MST") }

// CreatedSince is how long ago that was.
func (v imageView) CreatedSince() string { return ago(v.created()) }

// Platform is what it is for: OS/ARCHITECTURE[/VARIANT], or <none> if it does not say it.
func (v imageView) Platform() string {
	c := v.Config
	return orNone(strings.Trim(path.Join(c.OS, c.Architecture, c.Variant), "/"))
}

// Size is the disk use of its file.
func (v imageView) Size() string { return transfer.Size(v.Image.Size) }

// An imageHead has the column headers of a table of imageViews, by the same names.
type imageHead struct{}

// The columns of Docker's table, and the platform.
func (imageHead) Repository() string   { return "REPOSITORY" }
func (imageHead) Tag() string          { return "TAG" }
func (imageHead) Digest() string       { return "DIGEST" }
func (imageHead) ID() string           { return "IMAGE ID" }
func (imageHead) CreatedSince() string { return "CREATED" }
func (imageHead) CreatedAt() string    { return "CREATED AT" }
func (imageHead) Platform() string     { return "PLATFORM" }
func (imageHead) Size() string         { return "SIZE" }

func imageFilter(key, value string) (func(imageView) bool, error) {
	switch key {
	case "reference":
		_, err := path.Match(value, "")
		return func(l imageView) bool { return l.isNamed(value) }, misuse(err)
	case "dangling":
		return danglingFilter(value, func(l imageView) bool { return l.name == "" })
	case "label":
		return func(l imageView) bool { return hasLabel(l.Config.Labels, value) }, nil
	case "before", "since":
		i, err := findImage(value)
		border := imageView{Image: i}.created()
		return func(l imageView) bool {
			at := l.created()
			return key == "before" && at.Before(border) || key == "since" && at.After(border)
		}, err
	}
	return nil, misuse(fmt.Errorf("unknown key %q; want reference=, dangling=, label=, before= or since=", key))
}

// isNamed reports whether a pattern matches the whole name or its repository.
func (v imageView) isNamed(pattern string) bool {
	for _, name := range []string{v.name, v.Repository()} {
		if ok, err := path.Match(pattern, name); ok && err == nil && v.name != "" {
			return true
		}
	}
	return false
}

// An imageDetails is an image for a template of image inspect: with Docker's names.
type imageDetails struct{ sandbox.Image }

// Id is the ID, as Docker spells it.
func (v imageDetails) Id() string { return v.Image.ID } //nolint:revive,staticcheck // Docker's name.

// RepoTags are its names.
func (v imageDetails) RepoTags() []string { return v.Names }

// Architecture is the kind of processor that it is for.
func (v imageDetails) Architecture() string { return v.Config.Architecture }

// Os is the system that it is for.
func (v imageDetails) Os() string { return v.Config.OS }

// Created is when it was built, or imported.
func (v imageDetails) Created() string {
	return imageView{Image: v.Image}.created().Format(time.RFC3339Nano)
}
