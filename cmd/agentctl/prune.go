package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/agentd-go/agentd/internal/machines"
	"github.com/agentd-go/agentd/internal/transfer"
	"github.com/agentd-go/agentd/sandbox"
)

// A pruning lists the objects that system prune removes; it is also the JSON output.
type pruning struct {
	Machines  []string `json:"machines"`
	Images    []string `json:"images"` // IDs.
	Volumes   []string `json:"volumes"`
	Snapshots []string `json:"snapshots"`
	Initramfs int      `json:"initramfs"` // Number of them.
	Templates int      `json:"templates"` // Number of them.
	Size      int64    `json:"size"`      // Total bytes on this host's disk.
}

// pruneFlags select further objects besides ended machines.
type pruneFlags struct {
	images    bool
	volumes   bool
	snapshots bool
	force     bool
}

func newSystemPrune() *cobra.Command {
	f := pruneFlags{}
	cmd := &cobra.Command{
		Use:   "prune [-f] [-a] [--volumes] [--snapshots]",
		Short: "Remove machines that have ended, and what nothing uses",
		Long: `Remove machines that do not run, images that have no name and that no machine uses, and
initramfs and templates in the cache that were not used for a day. With -a images with a
name and all templates are removed too. With --volumes volumes that no machine uses are
removed too, and with --snapshots all snapshots. Machines that this command removes no
longer use anything. Running and paused machines and kernels are never removed.

The command lists what it would remove and asks first; with -f it does not ask. Without
-f and without a terminal it removes nothing, and its status is 125.
` + exitHelp(plainExit),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := interruptible(cmd)
			defer stop()
			return f.run(ctx, wantsJSON(cmd))
		},
	}
	cmd.Flags().BoolVarP(&f.images, "all", "a", false, "include images with a name that no machine uses, and all templates")
	cmd.Flags().BoolVar(&f.volumes, "volumes", false, "include volumes that no machine uses, with all their files")
	cmd.Flags().BoolVar(&f.snapshots, "snapshots", false, "include all snapshots")
	cmd.Flags().BoolVarP(&f.force, "force", "f", false, "do not ask")
	return offerJSON(cmd)
}

func (f *pruneFlags) run(ctx context.Context, asJSON bool) error {
	store, err := machines.Open("")
	if err != nil {
		return err
	}
	plan, err := f.plan(store)
	if err != nil {
		return err
	}
	if !f.force {
		if err := plan.confirm(asJSON); err != nil {
			return err
		}
	}
	done, err := plan.carryOut(ctx, store, f.templatesSince())
	if asJSON {
		return errors.Join(err, writeJSON(os.Stdout, done))
	}
	for _, line := range done.lines() {
		fmt.Println(line)
	}
	say("removed " + transfer.Size(done.Size))
	return err
}

// plan lists the objects to remove. A machine with an unreadable record is an error,
// because it may use any of them.
func (f *pruneFlags) plan(store *machines.Store) (p pruning, err error) {
	p = nothing()
	all, err := listed(store)
	if err != nil {
		return p, err
	}
	users := map[string]bool{} // Images of the machines that stay.
	for _, m := range all {
		s, err := m.Status()
		if err != nil {
			return p, err
		}
		if s.Alive || s.Phase == machines.Paused {
			users[m.Record().Config.Image] = true
			continue
		}
		p.Machines = append(p.Machines, m.Name())
	}
	images, err := inCache((*sandbox.Cache).Images)
	if err != nil {
		return p, err
	}
	for _, i := range images {
		if !users[i.ID] && (f.images || len(i.Names) == 0) {
			p.Images = append(p.Images, i.ID)
		}
	}
	if f.volumes {
		if p.Volumes, err = unusedVolumes(store, p.Machines); err != nil {
			return p, err
		}
	}
	if f.snapshots {
		if p.Snapshots, err = allSnapshots(store); err != nil {
			return p, err
		}
	}
	old, err := pruneInitramfs(true)
	templates, failed := pruneTemplates(f.templatesSince(), true)
	p.Initramfs, p.Templates = old.Count, templates.Count
	return p, errors.Join(err, failed)
}

// templatesSince is the time since which a template has to be used to stay.
func (f *pruneFlags) templatesSince() time.Time {
	if f.images {
		return time.Now()
	}
	return time.Now().Add(-unusedFor)
}

// nothing is a pruning without objects.
func nothing() pruning {
	return pruning{Machines: []string{}, Images: []string{}, Volumes: []string{}, Snapshots: []string{}}
}

func allSnapshots(store *machines.Store) ([]string, error) {
	all, err := store.Snapshots()
	names := []string{}
	for _, s := range all {
		names = append(names, s.Name)
	}
	return names, err
}

// unusedVolumes returns the volumes that no machine uses, except some machines.
func unusedVolumes(store *machines.Store, without []string) ([]string, error) {
	volumes, err := store.Volumes()
	unused := []string{}
	for _, v := range volumes {
		if !slices.ContainsFunc(v.Used, func(name string) bool { return !slices.Contains(without, name) }) {
			unused = append(unused, v.Name)
		}
	}
	return unused, err
}

// lines names all objects.
func (p pruning) lines() (lines []string) {
	for kind, names := range map[string][]string{"machine": p.Machines, "image": p.Images, "volume": p.Volumes, "snapshot": p.Snapshots} {
		for _, name := range names {
			lines = append(lines, kind+" "+name)
		}
	}
	if p.Initramfs > 0 {
		lines = append(lines, fmt.Sprint(p.Initramfs, " initramfs"))
	}
	if p.Templates > 0 {
		lines = append(lines, fmt.Sprint(p.Templates, " templates"))
	}
	slices.Sort(lines)
	return lines
}

// confirm lists the objects and asks the user.
func (p pruning) confirm(asJSON bool) error {
	lines := p.lines()
	if len(lines) == 0 {
		return nil // Nothing would be removed.
	}
	const none = "system prune: nothing was removed: -f removes it"
	if asJSON || !term.IsTerminal(int(os.Stdin.Fd())) {
		return fmt.Errorf("%s:\n  %s", none, strings.Join(lines, "\n  "))
	}
	fmt.Fprintf(os.Stderr, "This removes:\n  %s\nGo on? [y/N] ", strings.Join(lines, "\n  "))
	answer, _ := bufio.NewReader(os.Stdin).ReadString('\n') // The end of input means no.
	if word := strings.ToLower(strings.TrimSpace(answer)); word != "y" && word != "yes" {
		return errors.New(none)
	}
	return nil
}

// carryOut removes the objects of the plan that are still unused, and continues after
// errors.
func (p pruning) carryOut(ctx context.Context, store *machines.Store, templatesSince time.Time) (done pruning, err error) {
	done = nothing()
	users := sync.OnceValues(usersOfImages) // Once the machines are removed.
	for _, kind := range []struct {
		done  *[]string
		names []string
		take  func(name string) (size int64, err error)
	}{
		{&done.Machines, p.Machines, func(name string) (int64, error) { return removeEnded(ctx, store, name) }},
		{&done.Images, p.Images, func(id string) (int64, error) { return removeUnusedImage(users, id) }},
		{&done.Volumes, p.Volumes, func(name string) (int64, error) { return removeVolume(store, name) }},
		{&done.Snapshots, p.Snapshots, func(name string) (int64, error) { return removeSnapshot(store, name) }},
	} {
		gone, failed := forEach(kind.names, func(name string) (string, error) {
			size, err := kind.take(name)
			if err == nil {
				done.Size += size
			}
			return name, err
		}, machines.ErrRunning, machines.ErrNotFound, machines.ErrNoVolume, machines.ErrNoSnapshot, sandbox.ErrImageNotFound) // Started or removed meanwhile.
		*kind.done, err = gone, errors.Join(err, failed)
	}
	gone, failed := pruneInitramfs(false)
	done.Initramfs, done.Size = gone.Count, done.Size+gone.Size
	templates, stayed := pruneTemplates(templatesSince, false)
	done.Templates, done.Size = templates.Count, done.Size+templates.Size
	return done, errors.Join(err, failed, stayed)
}

func removeEnded(ctx context.Context, store *machines.Store, name string) (size int64, err error) {
	m, err := store.Get(name)
	if err != nil {
		return 0, err
	}
	if size, err = sandbox.DiskUse(m.Dir()); err != nil {
		return 0, err
	}
	return size, m.Remove(ctx)
}

// removeUnusedImage removes an image, except one that a machine uses by now.
func removeUnusedImage(usersOfImages func() (map[string][]string, error), id string) (size int64, err error) {
	users, err := usersOfImages()
	if err != nil {
		return 0, err
	}
	if users[id] != nil {
		return 0, machines.ErrRunning
	}
	i, err := findImage(id)
	if err != nil {
		return 0, err
	}
	return i.Size, deleteImage(id)
}

func removeSnapshot(store *machines.Store, name string) (size int64, err error) {
	s, err := store.Snapshot(name)
	if err != nil {
		return 0, err
	}
	return s.Size, store.RemoveSnapshot(name)
}

func removeVolume(store *machines.Store, name string) (size int64, err error) {
	if size, err = sandbox.DiskUse(store.VolumePath(name)); err != nil {
		return 0, err
	}
	return size, store.RemoveVolume(name) // Fails for a volume that is used by now.
}
