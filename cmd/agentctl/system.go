package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/agentd-go/agentd/internal/machines"
	"github.com/agentd-go/agentd/internal/transfer"
	"github.com/agentd-go/agentd/sandbox"
)

func newSystem() *cobra.Command {
	return group("system", "Show and free the disk space of machines and images", "",
		newSystemDf(), newSystemPrune())
}

// A usage is a line of system df.
type usage struct {
	Type        string `json:"type"`
	Total       int    `json:"total"`
	Active      int    `json:"active"` // Number in use: running machines, or objects that machines use.
	Size        int64  `json:"size"`   // Bytes on this host's disk.
	Reclaimable int64  `json:"reclaimable"`
}

// add counts one.
func (u *usage) add(size int64, active bool) {
	u.Total++
	u.Size += size
	if active {
		u.Active++
	} else {
		u.Reclaimable += size
	}
}

// share returns the reclaimable part in a form for people.
func (u *usage) share() string {
	if u.Size == 0 {
		return "0 B"
	}
	const percent = 100
	return fmt.Sprintf("%s (%d%%)", transfer.Size(u.Reclaimable), percent*u.Reclaimable/u.Size)
}

func newSystemDf() *cobra.Command {
	var text string
	cmd := &cobra.Command{
		Use:   "df",
		Short: "Show the disk space of machines, images, volumes and kernels",
		Long: `Show how much of this host's disk machines, images, volumes, snapshots, kernels,
templates of warm starts and the rest of the cache use, without holes. Reclaimable are
machines that do not run, images and volumes that no machine uses, snapshots, kernels
that no machine names, and templates and files of the cache that can be made again and
were not used for a day. Files of other users may be missing in the figures.
` + exitHelp(plainExit),
		RunE: func(cmd *cobra.Command, _ []string) error {
			lines, err := usages()
			if err != nil {
				return err
			}
			switch {
			case wantsJSON(cmd):
				return writeJSON(os.Stdout, lines)
			case text != "":
				return printEach(os.Stdout, text, lines, func(u usage) any { return usageView{u} }, usageHead)
			}
			w := table("TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE")
			for _, l := range lines {
				row(w, l.Type, l.Total, l.Active, transfer.Size(l.Size), l.share())
			}
			return w.Flush()
		},
	}
	cmd.Flags().StringVar(&text, "format", "", formatHelp)
	return offerJSON(cmd)
}

// usageHead has the headers of a table of usages.
var usageHead = map[string]string{"Type": "TYPE", "TotalCount": "TOTAL", "Active": "ACTIVE", "Size": "SIZE", "Reclaimable": "RECLAIMABLE"}

// usages returns the lines of all types.
func usages() ([]usage, error) {
	store, err := machines.Open("")
	if err != nil {
		return nil, err
	}
	var lines []usage
	for _, count := range []func(*machines.Store) ([]usage, error){imageUsage, machineUsage, volumeUsage, snapshotUsage, cacheUsage, templateUsage} {
		more, err := count(store)
		if err != nil {
			return nil, err
		}
		lines = append(lines, more...)
	}
	return lines, nil
}

func imageUsage(*machines.Store) ([]usage, error) {
	users, err := usersOfImages()
	if err != nil {
		return nil, err
	}
	all, err := inCache((*sandbox.Cache).Images)
	u, seen := usage{Type: "images"}, map[string]bool{}
	for _, i := range all {
		if seen[i.Path] {
			i.Size = 0 // Two images may share files.
		}
		seen[i.Path] = true
		u.add(i.Size, users[i.ID] != nil)
	}
	return []usage{u}, err
}

func machineUsage(store *machines.Store) ([]usage, error) {
	all, err := listed(store)
	u := usage{Type: "machines"}
	for _, m := range all {
		s, failed := m.Status()
		size, unread := sandbox.DiskUse(m.Dir())
		u.add(size, s.Alive || s.Phase == machines.Paused)
		err = errors.Join(err, failed, unread)
	}
	return []usage{u}, err
}

func volumeUsage(store *machines.Store) ([]usage, error) {
	all, err := store.Volumes()
	u := usage{Type: "volumes"}
	for _, v := range all {
		size, unread := sandbox.DiskUse(v.Path)
		u.add(size, len(v.Used) > 0)
		err = errors.Join(err, unread)
	}
	return []usage{u}, err
}

// snapshotUsage are the snapshots. None is in use: machines that were made of one have
// copies.
func snapshotUsage(store *machines.Store) ([]usage, error) {
	all, err := store.Snapshots()
	u := usage{Type: "snapshots"}
	for _, s := range all {
		u.add(s.Size, false)
	}
	return []usage{u}, err
}

// unusedFor is how long an initramfs or a template is kept that no machine was started
// from.
const unusedFor = 24 * time.Hour

// templateUsage are the templates of warm starts. Those in use had a start lately:
// machines that have started from one go on without it.
func templateUsage(*machines.Store) ([]usage, error) {
	now := time.Now()
	all, err := pruneTemplates(now.Add(unusedFor), true) // Whatever their clock said.
	unused, failed := pruneTemplates(now.Add(-unusedFor), true)
	u := usage{Type: "templates", Total: all.Count, Active: all.Count - unused.Count, Size: all.Size, Reclaimable: unused.Size}
	return []usage{u}, errors.Join(err, failed)
}

// cacheUsage are the kernels, and the cache without them, images and templates.
func cacheUsage(*machines.Store) ([]usage, error) {
	uses, err := inCache((*sandbox.Cache).Uses)
	if err != nil {
		return nil, err
	}
	kernels, rest := usage{Type: "kernels"}, usage{Type: "cache"}
	all, err := inCache((*sandbox.Cache).Kernels)
	if err != nil {
		return nil, err
	}
	for _, k := range all {
		users, failed := usersOfKernel(k.ID)
		size, unread := sandbox.DiskUse(filepath.Dir(k.Path))
		kernels.add(size, len(users) > 0)
		err = errors.Join(err, failed, unread)
	}
	for kind, u := range uses {
		switch kind {
		case "kernels", "lowers", "disks", "images", "names", "templates":
		default:
			rest.Total += u.Count
			rest.Size += u.Size
		}
	}
	old, failed := pruneInitramfs(true)
	rest.Active, rest.Reclaimable = rest.Total-old.Count, old.Size
	return []usage{kernels, rest}, errors.Join(err, failed)
}

// A usageView is a usage for a template, by Docker's names.
type usageView struct{ usage }

// TotalCount is the number of objects.
func (v usageView) TotalCount() int { return v.Total }

// Size is their disk space.
func (v usageView) Size() string { return transfer.Size(v.usage.Size) }

// Reclaimable is the part that is not in use.
func (v usageView) Reclaimable() string { return v.share() }
