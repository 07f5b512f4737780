package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/agentd-go/agentd/internal/machines"
)

func newVolume() *cobra.Command {
	return group("volume", "Manage the volumes that machines share", `Manage volumes: directories of this host with names, which machines mount with
-v NAME:PATH. They outlive machines, and several machines may use one at once.`,
		newVolumeCreate(), newVolumeList(), newVolumeInspect(), newVolumeRemove(), newVolumePrune())
}

func newVolumeCreate() *cobra.Command {
	var labels []string
	cmd := &cobra.Command{
		Use:   "create [flags] NAME",
		Short: "Make a volume, unless it exists",
		Long:  "Make a volume, unless it exists, and print its name. -v NAME:PATH makes it too.\n" + exitHelp(plainExit),
		RunE: inStore(func(cmd *cobra.Command, store *machines.Store, args []string) error {
			all, err := parseLabels(labels)
			if err != nil {
				return misuse(err)
			}
			v, made, err := store.MakeVolume(args[0], all)
			if err == nil && !made && len(all) > 0 {
				err = fmt.Errorf("volume %s exists already, with other labels", v.Name)
			}
			if err != nil {
				return err
			}
			return tell(cmd, []machines.Volume{v}, volumeName)
		}),
	}
	cmd.Flags().StringArrayVarP(&labels, "label", "l", nil, "label it: `KEY=VALUE`")
	return offerJSON(cmd)
}

func volumeName(v machines.Volume) string { return v.Name }

func newVolumeList() *cobra.Command {
	var quiet bool
	var text string
	var filters []string
	cmd := &cobra.Command{
		Use:   "ls [flags]",
		Short: "List the volumes",
		Long: `List the volumes, and how many machines use each.

A filter is name=TEXT (a part of the name), label=KEY[=VALUE], dangling=true|false (no
machine uses the volume) or driver=local, which all volumes have.
` + exitHelp(plainExit),
		RunE: inStore(func(cmd *cobra.Command, store *machines.Store, _ []string) error {
			all, err := store.Volumes()
			if err == nil {
				all, err = filterBy(all, filters, volumeFilter)
			}
			if err != nil {
				return err
			}
			switch {
			case quiet, wantsJSON(cmd):
				return tell(cmd, all, volumeName)
			case text != "":
				return printEach(os.Stdout, text, all, func(v machines.Volume) any { return volumeView{v} }, volumeHead{})
			}
			w := table("NAME", "CREATED", "MACHINES")
			for _, v := range all {
				row(w, v.Name, ago(v.Created), len(v.Used))
			}
			return w.Flush()
		}),
	}
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "names only")
	cmd.Flags().StringArrayVarP(&filters, "filter", "f", nil, "only volumes with `KEY=VALUE`: name, label, dangling or driver")
	cmd.Flags().StringVar(&text, "format", "", formatHelp)
	offerJSON(cmd)
	return cmd
}

func newVolumeInspect() *cobra.Command {
	return offerDetails(&cobra.Command{
		Use:   "inspect [-f TEMPLATE] NAME...",
		Short: "Print all details of volumes",
		Long: `Print volumes as a JSON array, or each by a template. The fields are name, created,
labels, path and machines.
` + exitHelp(plainExit),
	}, findVolume, func(v machines.Volume) any { return volumeDetails{v} })
}

func findVolume(name string) (v machines.Volume, err error) {
	store, err := machines.Open("")
	if err != nil {
		return v, err
	}
	return store.Volume(name)
}

func newVolumeRemove() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "rm [-f] NAME...",
		Short: "Remove volumes with all their files",
		Long:  "Remove volumes with all their files. A volume that a machine uses is refused.\n" + exitHelp(plainExit),
		RunE: inStore(func(cmd *cobra.Command, store *machines.Store, args []string) error {
			return removeEach(cmd, args, store.RemoveVolume, force, machines.ErrNoVolume)
		}),
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "a missing volume is no error")
	return offerJSON(cmd)
}

func newVolumePrune() *cobra.Command {
	var all, force bool
	cmd := &cobra.Command{
		Use:   "prune -a",
		Short: "Remove the volumes that no machine uses",
		Long: `Remove the volumes that no machine uses, with their content. As with containers,
volumes with a name are removed only with -a; here all volumes have one.
` + exitHelp(plainExit),
		RunE: inStore(func(cmd *cobra.Command, store *machines.Store, _ []string) error {
			if !all {
				return misuse(errors.New("volume prune: all volumes have names; -a removes those that no machine uses"))
			}
			unused, err := unusedVolumes(store, nil)
			if err != nil {
				return err
			}
			return removeEach(cmd, unused, store.RemoveVolume, false, nil)
		}),
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "include volumes with a name; all volumes have names")
	cmd.Flags().BoolVarP(&force, "force", "f", false, "accepted for compatibility; it never asks")
	return offerJSON(cmd)
}
