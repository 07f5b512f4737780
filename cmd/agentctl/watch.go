package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/agentd-go/agentd/client"
)

// A watchLine is an event in the output of watch --json.
type watchLine struct {
	Path string `json:"path"` // The watched one, as it was given.
	Op   string `json:"op"`
	Type string `json:"type"` // file or dir; file stands for all that is no directory.
	Name string `json:"name"` // Below the path; "." is the path itself.
	Old  string `json:"old,omitempty"`
}

type watching struct {
	recursive bool
	exclude   []string
	json      bool
}

func newWatch() *cobra.Command {
	f := &watching{}
	cmd := &cobra.Command{
		Use:   "watch [-r] NAME PATH...",
		Short: "Show what changes in directories of a machine",
		Long: `Show what changes in directories or files of a machine, until it is interrupted or all of
them are gone. Each line is an event and a name: create, modify, close (after writing),
attrib, remove, rename (with the old name), overflow (events were lost: list the
directory again) and gone (the directory itself was removed or renamed). A line "ready"
on standard error says that all later changes are shown.
` + exitHelp(plainExit),
		Example: `  agentctl watch -r dev /srv
  agentctl watch -r --exclude .git --json dev /srv /etc`,
		Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withClient(cmd, args[0], func(ctx context.Context, c *client.Client) error {
				if err := f.watch(ctx, c, args[1:]); ctx.Err() == nil {
					return err
				}
				return nil // The user has ended it.
			})
		},
	}
	cmd.Flags().BoolVarP(&f.recursive, "recursive", "r", false, "watch all directories below, too, also new ones")
	cmd.Flags().StringArrayVar(&f.exclude, "exclude", nil, "leave out names that match `PATTERN`, and what is below them; with a slash it is matched against the name below PATH; repeatable")
	cmd.Flags().BoolVar(&f.json, "json", false, "print an object for each event, one on each line")
	return cmd
}

// watch shows the events of all paths as they come.
func (f *watching) watch(ctx context.Context, c *client.Client, paths []string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var all []*client.Watch
	defer func() {
		for _, w := range all {
			_ = w.Close() // It was only read.
		}
	}()
	for _, path := range paths {
		w, err := c.Watch(ctx, path, client.WatchOptions{Recursive: f.recursive, Exclude: f.exclude})
		if err != nil {
			return err
		}
		all = append(all, w)
	}
	fmt.Fprintln(os.Stderr, "ready")
	lines, ends := make(chan watchLine), make(chan error)
	for i, w := range all {
		go func() { ends <- follow(ctx, w, paths[i], lines) }()
	}
	var failed error
	for open := len(all); open > 0; {
		select {
		case l := <-lines:
			if err := f.print(&l); err != nil && failed == nil {
				failed = err
				cancel()
			}
		case err := <-ends:
			open--
			if failed == nil && err != nil {
				failed = err
				cancel()
			}
		}
	}
	return failed
}

// follow passes the events of one path on, until it is gone.
func follow(ctx context.Context, w *client.Watch, path string, to chan<- watchLine) error {
	for {
		e, err := w.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		l := watchLine{Path: path, Op: string(e.Op), Type: "file", Name: e.Name, Old: e.Old}
		if e.Dir {
			l.Type = "dir"
		}
		select {
		case to <- l:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (f *watching) print(l *watchLine) error {
	if f.json {
		return encodeJSON(os.Stdout, l, "")
	}
	name := l.name(l.Name)
	if l.Old != "" {
		name = l.name(l.Old) + " -> " + name
	}
	_, err := fmt.Println(l.Op + "\t" + plain(name))
	return err
}

// name is a name with its watched path, and a slash after a directory.
func (l *watchLine) name(name string) string {
	s := l.Path
	if name != "." {
		s = strings.TrimSuffix(s, "/") + "/" + name
	}
	if l.Type == "dir" && !strings.HasSuffix(s, "/") {
		s += "/"
	}
	return s
}
