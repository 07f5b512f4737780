package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/internal/transfer"
)

// A syncResult is the output of sync --json.
type syncResult struct {
	copyResult

	Removed int64             `json:"removed"`           // A directory counts as one.
	Changes []transfer.Change `json:"changes,omitempty"` // With -n.
}

type syncer struct {
	copier

	delete, dryRun bool
	exclude        []string
}

func newSync() *cobra.Command {
	f := &syncer{}
	cmd := &cobra.Command{
		Use:   "sync [-n] [--delete] [--exclude PATTERN]... SOURCE TARGET",
		Short: "Make a directory of a machine the same as one of this host, or the reverse",
		Long: `Copy what differs from a directory SOURCE to a directory TARGET. The contents of SOURCE
become the contents of TARGET, which is made if it does not exist. A place in a machine is
NAME:PATH.

Files of the same size, time and permissions are equal and not copied; links are equal
when they say the same. With --delete, names that are only in TARGET are removed, after
all was copied, and a file may replace a directory or the reverse; nothing is removed
if something could not be copied. A file that changes while it is copied is copied again,
and reported if it goes on changing. Otherwise files are copied as by cp -r.
` + exitHelp(plainExit),
		Example: `  agentctl sync --delete --exclude .git . dev:/srv/app
  agentctl sync -n dev:/var/log logs`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := interruptible(cmd)
			defer stop()
			return f.run(ctx, args[0], args[1])
		},
	}
	cmd.Flags().BoolVar(&f.delete, "delete", false, "remove names from TARGET that SOURCE does not have")
	cmd.Flags().StringArrayVar(&f.exclude, "exclude", nil, "neither copy nor remove names that match `PATTERN`, and what is below them; with a slash it is matched against the name below SOURCE; repeatable")
	cmd.Flags().BoolVarP(&f.dryRun, "dry-run", "n", false, "only print what would be copied and removed")
	cmd.Flags().BoolVarP(&f.archive, "archive", "a", false, "keep owners, hard links, extended attributes and devices of what is copied")
	cmd.Flags().BoolVarP(&f.quiet, "quiet", "q", false, "show no progress")
	cmd.Flags().BoolVar(&f.json, "json", false, "print the result as JSON")
	return cmd
}

// run makes the target the same, and prints the result.
func (f *syncer) run(ctx context.Context, source, target string) (err error) {
	f.recursive = true
	var p places
	defer p.close()
	from, err := p.end(ctx, source)
	if err != nil {
		return err
	}
	to, err := p.end(ctx, target)
	if err != nil {
		return err
	}
	start := time.Now()
	var sum syncResult
	err = f.sync(ctx, from, to, &sum)
	sum.Seconds = time.Since(start).Seconds()
	if f.json {
		return errors.Join(err, writeJSON(os.Stdout, sum))
	}
	for _, c := range sum.Changes {
		fmt.Println(c.Do + "\t" + plain(c.Name))
	}
	return err
}

// passes bounds the repetitions for files that change while they are copied.
const passes = 3

// sync makes passes until no copied file has changed meanwhile. After the end of a link it goes
// on over the next one.
func (f *syncer) sync(ctx context.Context, from, to transfer.End, sum *syncResult) error {
	how := transfer.Sync{How: f.how(), Delete: f.delete, Exclude: f.exclude}
	for failed, pass := 0, 1; ; {
		files := sum.Files
		changed, err := f.pass(ctx, &how, from, to, sum)
		if sum.Files > files {
			failed = 0
		}
		switch {
		case ctx.Err() != nil:
			return err
		case client.LinkEnded(err) && failed < fruitless:
			failed++
			say("the link to the machine has ended; the sync goes on over the next one")
		case len(changed) == 0:
			return err
		case pass == passes:
			return errors.Join(err, errChanging(changed))
		default:
			pass++
		}
	}
}

// errChanging names files that change too often.
func errChanging(names []string) error {
	text := ""
	if len(names) > 1 {
		text = fmt.Sprintf(", and %d more", len(names)-1)
	}
	return fmt.Errorf("%s%s: changes again and again; the copy may be half of each", names[0], text)
}

// pass plans a sync and carries it out. It returns the copied files that have changed meanwhile.
func (f *syncer) pass(ctx context.Context, how *transfer.Sync, from, to transfer.End, sum *syncResult) (changed []string, err error) {
	finish := f.progress(func(time.Time) string { return "comparing " + plain(from.Name) })
	plan, err := how.Plan(ctx, from, to)
	finish("")
	if err != nil {
		return nil, err
	}
	defer func() { _ = plan.Close() }() // Close writes nothing.
	if sum.Odd == nil {
		for _, odd := range plan.Odd {
			sayPlain(odd)
		}
	}
	sum.Odd, sum.Skipped = plan.Odd, plan.Skipped
	if f.dryRun {
		sum.Changes = plan.Changes()
		return nil, plan.Failed()
	}
	var done transfer.Progress
	if err := f.do(ctx, plan, &done); err != nil {
		changed, _ = plan.Changed(ctx) // The first error matters more.
		f.add(sum, &done)
		return changed, err
	}
	f.add(sum, &done)
	return plan.Changed(ctx)
}

func (*syncer) add(sum *syncResult, done *transfer.Progress) {
	sum.Files += done.Files.Load()
	sum.Bytes += done.Bytes.Load()
	sum.Removed += done.Removed.Load()
}
