package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/internal/transfer"
)

// splitPlace splits NAME:PATH. A path with a slash before its first colon is a path on
// this host, as with scp(1).
func splitPlace(s string) (name, path string, inMachine bool) {
	name, path, ok := strings.Cut(s, ":")
	if !ok || strings.Contains(name, "/") || name == "" {
		return "", s, false
	}
	if path == "" {
		path = "/"
	}
	return name, path, true
}

// places resolves the ends of copies, with one client for each machine.
type places struct {
	clients map[string]*client.Reconnector
}

func (p *places) end(ctx context.Context, s string) (transfer.End, error) {
	name, path, inMachine := splitPlace(s)
	if !inMachine {
		return transfer.End{Side: transfer.Host{}, Name: path}, nil
	}
	if p.clients[name] == nil {
		c, err := reconnector(ctx, name)
		if err != nil {
			return transfer.End{}, err
		}
		if p.clients == nil {
			p.clients = map[string]*client.Reconnector{}
		}
		p.clients[name] = c
	}
	return transfer.End{Side: transfer.Guest{Again: p.clients[name]}, Name: path}, nil
}

func (p *places) close() {
	for _, c := range p.clients {
		_ = c.Close() // What it was for is over.
	}
}

type copier struct{ recursive, archive, quiet, json bool }

func (f *copier) how() transfer.How {
	switch {
	case f.archive:
		return transfer.Exact
	case f.recursive:
		return transfer.Tree
	}
	return transfer.Files
}

func newCp() *cobra.Command {
	f := &copier{}
	cmd := &cobra.Command{
		Use:   "cp [-r] SOURCE... TARGET",
		Short: "Copy files into machines and out of them",
		Long: `Copy files between this host and machines, or between two machines. A place in a
machine is NAME:PATH. A source goes into a target that is a directory, and becomes
the target otherwise; SOURCE/. is copied into the target itself.

Permissions, times, symbolic links and holes are kept. On this host the copies belong
to the user who runs agentctl, and in a machine to root; -a keeps owners, hard links,
extended attributes and devices too. A file gets its name when it is complete. A
directory never replaces a file, nor a file a directory. Files that are already equal
are skipped, so the same command completes an interrupted copy. If the first run made
the target directory, use SOURCE/. in place of SOURCE.

With - for TARGET the source is written to standard output as a tar archive; with -
for SOURCE an archive from standard input is unpacked below TARGET, a directory.
` + exitHelp(plainExit),
		Example: `  agentctl cp -r src dev:/srv
  agentctl cp dev:/srv/report.pdf .`,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := interruptible(cmd)
			defer stop()
			return f.copy(ctx, args[:len(args)-1], args[len(args)-1])
		},
	}
	cmd.Flags().BoolVarP(&f.recursive, "recursive", "r", false, "copy directories with all their content")
	cmd.Flags().BoolVarP(&f.archive, "archive", "a", false, "the same, and keep owners, hard links, extended attributes and devices")
	cmd.Flags().BoolVarP(&f.quiet, "quiet", "q", false, "show no progress")
	cmd.Flags().BoolVar(&f.json, "json", false, "print the result as JSON")
	return cmd
}

// A copyResult is the output of cp --json.
type copyResult struct {
	Files   int64    `json:"files"`
	Bytes   int64    `json:"bytes"`
	Skipped int      `json:"skipped"`
	Odd     []string `json:"left_out,omitempty"`
	Seconds float64  `json:"seconds"`
}

func (f *copier) copy(ctx context.Context, sources []string, target string) (err error) {
	var p places
	defer p.close()
	if target == "-" || slices.Contains(sources, "-") {
		return f.stream(ctx, &p, sources, target)
	}
	to, err := p.end(ctx, target)
	if err != nil {
		return err
	}
	start := time.Now()
	var sum copyResult
	for _, source := range sources {
		from, failed := p.end(ctx, source)
		if failed == nil {
			failed = f.one(ctx, from, to, &sum)
		}
		if failed != nil && len(p.clients) > 1 { // Otherwise the path alone is unambiguous.
			failed = fmt.Errorf("%s to %s: %w", source, target, failed)
		}
		err = errors.Join(err, failed)
	}
	sum.Seconds = time.Since(start).Seconds()
	if f.json {
		err = errors.Join(err, writeJSON(os.Stdout, sum))
	}
	return err
}

// stream copies to standard output or from standard input, as a tar archive.
func (f *copier) stream(ctx context.Context, p *places, sources []string, target string) error {
	switch {
	case f.json:
		return misuse(errors.New("cp: --json: an archive on standard input or output has no report"))
	case len(sources) > 1:
		return misuse(fmt.Errorf("cp with -: one source and one target, not %d sources", len(sources)))
	case sources[0] == target:
		return misuse(errors.New("cp - -: one of the two must be a path or NAME:PATH"))
	case target == "-":
		from, err := p.end(ctx, sources[0])
		if err != nil {
			return err
		}
		return archiveOut(ctx, from)
	}
	to, err := p.end(ctx, target)
	if err != nil {
		return err
	}
	if info, err := to.Side.Stat(ctx, to.Name); err != nil {
		return err
	} else if !info.IsDir() {
		return fmt.Errorf("%s: an archive is unpacked below a directory, and this is none", target)
	}
	return transfer.ReadTar(ctx, to, standardInput(ctx), sayPlain)
}

// fruitless bounds the links that end one after the other without a file that was copied.
const fruitless = 5

// one copies one source. A file goes on when a link ends; a tree is planned again on the next
// link, so that what is there is skipped.
func (f *copier) one(ctx context.Context, from, to transfer.End, sum *copyResult) error {
	skipped, odd := sum.Skipped, sum.Odd
	for failed := 0; ; failed++ {
		files := sum.Files
		becomes, err := f.once(ctx, from, to, sum)
		if sum.Files > files {
			failed = 0
		}
		if ctx.Err() != nil || !client.LinkEnded(err) || failed >= fruitless {
			return err
		}
		say("the link to the machine has ended; the copy continues on a new one")
		if becomes {
			from.Name = strings.TrimSuffix(from.Name, "/") + "/."
		}
		sum.Skipped, sum.Odd = skipped, odd // What was copied is skipped now.
	}
}

// once copies one source until the copy or a link ends. becomes says that the source has become
// the target, so that the same copy would go into it.
func (f *copier) once(ctx context.Context, from, to transfer.End, sum *copyResult) (becomes bool, err error) {
	finish := f.progress(func(time.Time) string { return "listing " + plain(from.Name) })
	plan, err := transfer.New(ctx, from, to, f.how())
	finish("")
	if errors.Is(err, transfer.ErrDirectory) {
		return false, fmt.Errorf("%w; -r copies it", err)
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = plan.Close() }() // Close writes nothing.
	for _, odd := range plan.Odd {
		sayPlain(odd)
	}
	var done transfer.Progress
	err = f.do(ctx, plan, &done)
	sum.Files += done.Files.Load()
	sum.Bytes += done.Bytes.Load()
	sum.Skipped += plan.Skipped
	sum.Odd = append(sum.Odd, plan.Odd...)
	if ctx.Err() != nil {
		next := "the same command goes on"
		if plan.Becomes {
			next += fmt.Sprintf(" with %s/. in place of %s", from.Name, from.Name)
		}
		return plan.Becomes, fmt.Errorf("interrupted after %d of %d files; %s", done.Files.Load(), plan.Files, next)
	}
	return plan.Becomes, err
}

// do carries out a plan and shows its progress.
func (f *copier) do(ctx context.Context, plan *transfer.Plan, done *transfer.Progress) error {
	meter := transfer.NewMeter(plan, done, time.Now())
	finish := f.progress(func(now time.Time) string { return meter.Line(now, terminalSize(os.Stderr).columns-1) })
	err := plan.Do(ctx, done)
	if err != nil {
		finish("")
		return err
	}
	finish(meter.Summary(time.Now()))
	return nil
}

// progress draws a line until the copy ends, unless standard error is no terminal or
// the user wants no progress.
func (f *copier) progress(line func(now time.Time) string) (finish func(last string)) {
	if f.quiet {
		return func(string) {}
	}
	return showing(line)
}

// place parses an argument that must name a path in a machine.
func place(s string) (name, path string, err error) {
	name, path, ok := splitPlace(s)
	if !ok {
		return "", "", misuse(fmt.Errorf("%q: want NAME:PATH", s))
	}
	return name, path, nil
}

// inMachine makes a command whose arguments are paths in machines.
func inMachine(cmd *cobra.Command, args []string, f func(ctx context.Context, r *client.Reconnector, path string) error) (err error) {
	for _, arg := range args { // Check all arguments before the first action.
		if _, _, bad := place(arg); bad != nil {
			return bad
		}
	}
	for _, arg := range args {
		name, path, _ := splitPlace(arg)
		err = errors.Join(err, withReconnector(cmd, name, func(ctx context.Context, r *client.Reconnector) error { return f(ctx, r, path) }))
	}
	return err
}

// A fileLine is a file in the output of ls --json.
type fileLine struct {
	Name     string    `json:"name"`
	Type     string    `json:"type"` // file, directory, link or other.
	Mode     string    `json:"mode"` // Octal.
	Size     int64     `json:"size"`
	UID      uint32    `json:"uid"`
	GID      uint32    `json:"gid"`
	Modified time.Time `json:"modified"`
	Target   string    `json:"target,omitempty"` // Target of a link.
}

func newLs() *cobra.Command {
	return offerJSON(&cobra.Command{
		Use:   "ls NAME:PATH",
		Short: "List a directory of a machine",
		Long:  "List a directory of a machine, or show one file.\n" + exitHelp(plainExit),
		RunE: func(cmd *cobra.Command, args []string) error {
			return inMachine(cmd, args, func(ctx context.Context, r *client.Reconnector, path string) error {
				lines, err := list(ctx, transfer.Guest{Again: r}, path)
				if err != nil {
					return err
				}
				if wantsJSON(cmd) {
					return writeJSON(os.Stdout, lines)
				}
				return printFiles(lines)
			})
		},
	})
}

func list(ctx context.Context, side transfer.Guest, path string) ([]fileLine, error) {
	info, err := side.Stat(ctx, path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []fileLine{line(ctx, side, path, info)}, nil
	}
	entries, err := side.ReadDir(ctx, path)
	lines := []fileLine{}
	for _, e := range entries {
		if info, err := e.Info(); err == nil { // Otherwise it was removed meanwhile.
			lines = append(lines, line(ctx, side, side.Join(path, e.Name()), info))
		}
	}
	return lines, err
}

func line(ctx context.Context, side transfer.Guest, path string, info fs.FileInfo) fileLine {
	l := fileLine{Name: info.Name(), Mode: fmt.Sprintf("%04o", modeOf(info)), Size: info.Size(), Modified: info.ModTime().UTC()}
	if s, ok := info.Sys().(*client.Stat); ok {
		l.UID, l.GID = s.UID, s.GID
	}
	switch {
	case info.IsDir():
		l.Type = "directory"
	case info.Mode().IsRegular():
		l.Type = "file"
	case info.Mode()&fs.ModeSymlink != 0:
		l.Type = "link"
		l.Target, _ = side.ReadLink(ctx, path) // It may have been removed meanwhile.
	default:
		l.Type = "other"
	}
	return l
}

// modeOf returns a mode in the octal form of chmod(1).
func modeOf(info fs.FileInfo) uint32 {
	bits := uint32(info.Mode().Perm())
	for mode, bit := range map[fs.FileMode]uint32{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000} {
		if info.Mode()&mode != 0 {
			bits |= bit
		}
	}
	return bits
}

func printFiles(lines []fileLine) error {
	w := table("MODE", "UID", "GID", "SIZE", "MODIFIED", "NAME")
	for _, l := range lines {
		name := l.Name
		switch {
		case l.Type == "directory":
			name += "/"
		case l.Target != "":
			name += " -> " + l.Target
		}
		row(w, l.Mode, l.UID, l.GID, l.Size, l.Modified.Local().Format("2006-01-02 15:04"), name)
	}
	return w.Flush()
}

func newCat() *cobra.Command {
	return &cobra.Command{
		Use:   "cat NAME:PATH...",
		Short: "Write files of a machine to standard output",
		Long:  "Write files of machines to standard output, one after the other.\n" + exitHelp(plainExit),
		RunE: func(cmd *cobra.Command, args []string) error {
			return inMachine(cmd, args, func(ctx context.Context, r *client.Reconnector, path string) error {
				f, err := r.Open(ctx, path)
				if err != nil {
					return err
				}
				_, err = io.Copy(os.Stdout, f)
				return errors.Join(err, f.Close())
			})
		},
	}
}

func newPut() *cobra.Command {
	var mode string
	cmd := &cobra.Command{
		Use:   "put NAME:PATH",
		Short: "Write standard input to a file of a machine",
		Long:  "Write standard input to a file of a machine, which is made or replaced.\n" + exitHelp(plainExit),
		RunE: func(cmd *cobra.Command, args []string) error {
			bits, err := parseMode(mode)
			if err != nil {
				return err
			}
			return inMachine(cmd, args, func(ctx context.Context, r *client.Reconnector, path string) error {
				return transfer.Put(ctx, transfer.End{Side: transfer.Guest{Again: r}, Name: path}, standardInput(ctx), bits)
			})
		},
	}
	cmd.Flags().StringVar(&mode, "mode", "", "its `permissions`, octal")
	return cmd
}

// standardInput reads our standard input until ctx ends. Nothing interrupts a Read of a
// terminal or a pipe, so its goroutine may stay blocked after that.
func standardInput(ctx context.Context) io.Reader {
	const piece = 128 << 10 // As large as a file's frames.
	from := os.Stdin
	r, w := io.Pipe()
	context.AfterFunc(ctx, func() { _ = w.CloseWithError(context.Cause(ctx)) })
	go func() {
		// Hide the optimized methods of both, which use other piece sizes.
		_, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{from}, make([]byte, piece))
		_ = w.CloseWithError(err) // A nil error means the end.
	}()
	return r
}

// parseMode returns nil for "".
func parseMode(mode string) (*fs.FileMode, error) {
	if mode == "" {
		return nil, nil //nolint:nilnil // None is asked for.
	}
	const octal, bits = 8, 9
	n, err := strconv.ParseUint(mode, octal, bits)
	if err != nil {
		return nil, misuse(fmt.Errorf("--mode %q: want octal digits, 777 at most", mode))
	}
	perm := fs.FileMode(n)
	return &perm, nil
}

// archiveOut writes a tree to standard output.
func archiveOut(ctx context.Context, from transfer.End) error {
	if term.IsTerminal(int(os.Stdout.Fd())) {
		return errors.New("standard output is a terminal; redirect the archive to a file or a program")
	}
	return transfer.WriteTar(ctx, os.Stdout, from, sayPlain)
}

// sayPlain prints a line that may hold names from a machine or an archive.
func sayPlain(line string) { say(plain(line)) }

func newTar() *cobra.Command {
	var extract bool
	cmd := &cobra.Command{
		Use:   "tar [-x] NAME:PATH",
		Short: "Stream a tree of a machine as a tar archive",
		Long: `Write a tree of a machine to standard output as a tar archive; with -x unpack an
archive from standard input below a directory of a machine.
` + exitHelp(plainExit),
		Example: `  agentctl tar dev:/work | gzip >work.tar.gz
  tar c . | agentctl tar -x dev:/work`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return inMachine(cmd, args, func(ctx context.Context, r *client.Reconnector, path string) error {
				end := transfer.End{Side: transfer.Guest{Again: r}, Name: path}
				if extract {
					return transfer.ReadTar(ctx, end, standardInput(ctx), sayPlain)
				}
				return archiveOut(ctx, end)
			})
		},
	}
	cmd.Flags().BoolVarP(&extract, "extract", "x", false, "unpack standard input")
	return cmd
}
