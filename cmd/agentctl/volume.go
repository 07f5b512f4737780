package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/agentd-go/agentd/internal/machines"
)

func newVolume() *cobra.Command {
	volume := &cobra.Command{
		Use:   "volume",
		Short: "Manage the volumes that machines share",
		Long: `Manage volumes: directories of this host with names, which machines mount with
-v NAME:PATH. They outlive machines, and several machines may use one at once.`,
	}
	volume.AddCommand(newVolumeCreate(), newVolumeList(), newVolumeInspect(), newVolumeRemove(), newVolumePrune())
	return volume
}

func newVolumeCreate() *cobra.Command {
	var labels []string
	cmd := &cobra.Command{
		Use:   "create [flags] NAME",
		Short: "Make a volume, unless it exists",
		Long:  "Make a volume, unless it exists, and print its name. -v NAME:PATH makes it too.\n" + exitHelp(plainExit),
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			all, err := parseLabels(labels)
			if err != nil {
				return misuse(err)
			}
			store, err := machines.Open("")
			if err != nil {
				return err
			}
			v, made, err := store.MakeVolume(args[0], all)
			if err == nil && !made && len(all) > 0 {
				err = fmt.Errorf("volume %s exists already, with other labels", v.Name)
			}
			if err != nil {
				return err
			}
			if wantsJSON(cmd) {
				return writeJSON(os.Stdout, []machines.Volume{v})
			}
			fmt.Println(v.Name)
			return nil
		},
	}
	cmd.Flags().StringArrayVarP(&labels, "label", "l", nil, "label it: `KEY=VALUE`")
	return offerJSON(cmd)
}

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
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			store, err := machines.Open("")
			if err != nil {
				return err
			}
			all, err := store.Volumes()
			if err == nil {
				all, err = filterVolumes(all, filters)
			}
			if err != nil {
				return err
			}
			if wantsJSON(cmd) {
				return writeJSON(os.Stdout, append([]machines.Volume{}, all...))
			}
			if text != "" {
				return printVolumes(os.Stdout, text, all)
			}
			return listVolumes(all, quiet)
		},
	}
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "names only")
	cmd.Flags().StringArrayVarP(&filters, "filter", "f", nil, "only volumes with `KEY=VALUE`: name, label, dangling or driver")
	cmd.Flags().StringVar(&text, "format", "", formatHelp)
	offerJSON(cmd)
	return cmd
}

func listVolumes(all []machines.Volume, quiet bool) error {
	if quiet {
		for _, v := range all {
			fmt.Println(v.Name)
		}
		return nil
	}
	w := table("NAME", "CREATED", "MACHINES")
	for _, v := range all {
		row(w, v.Name, ago(v.Created), len(v.Used))
	}
	return w.Flush()
}

func newVolumeInspect() *cobra.Command {
	var text string
	cmd := &cobra.Command{
		Use:   "inspect [-f TEMPLATE] NAME...",
		Short: "Print all details of volumes",
		Long: `Print volumes as a JSON array, or each by a template. The fields are name, created,
labels, path and machines.
` + exitHelp(plainExit),
		Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			store, err := machines.Open("")
			if err != nil {
				return err
			}
			var all []machines.Volume
			for _, name := range args {
				v, err := store.Volume(name)
				if err != nil {
					return err
				}
				all = append(all, v)
			}
			if text != "" {
				return printEach(os.Stdout, text, all, func(v machines.Volume) any { return volumeDetails{v} })
			}
			return writeJSON(os.Stdout, all)
		},
	}
	cmd.Flags().StringVarP(&text, "format", "f", "", formatHelp)
	cmd.Flags().Bool("json", true, "as JSON; it always is without -f")
	return cmd
}

// A volumeRemoval is a volume in the output of volume rm and prune --json.
type volumeRemoval struct {
	Name string `json:"name"`
}

func newVolumeRemove() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "rm [-f] NAME...",
		Short: "Remove volumes with all their files",
		Long:  "Remove volumes with all their files. A volume that a machine uses is refused.\n" + exitHelp(plainExit),
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			store, err := machines.Open("")
			if err != nil {
				return err
			}
			return removeVolumes(cmd, store, args, force)
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "a missing volume is no error")
	return offerJSON(cmd)
}

// removeVolumes continues after errors. It prints the names of removed volumes.
func removeVolumes(cmd *cobra.Command, store *machines.Store, names []string, force bool) (err error) {
	gone := []volumeRemoval{}
	for _, name := range names {
		failed := store.RemoveVolume(name)
		if force && errors.Is(failed, machines.ErrNoVolume) {
			continue
		}
		if failed == nil {
			gone = append(gone, volumeRemoval{name})
		}
		err = errors.Join(err, failed)
	}
	if wantsJSON(cmd) {
		return errors.Join(err, writeJSON(os.Stdout, gone))
	}
	for _, v := range gone {
		fmt.Println(v.Name)
	}
	return err
}

func newVolumePrune() *cobra.Command {
	var all, force bool
	cmd := &cobra.Command{
		Use:   "prune -a",
		Short: "Remove the volumes that no machine uses",
		Long: `Remove the volumes that no machine uses, with their content. As with containers,
volumes with a name are removed only with -a; here all volumes have one.
` + exitHelp(plainExit),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !all {
				return misuse(errors.New("volume prune: all volumes have names; -a removes those that no machine is made with"))
			}
			store, err := machines.Open("")
			if err != nil {
				return err
			}
			volumes, err := store.Volumes()
			if err != nil {
				return err
			}
			var unused []string
			for _, v := range volumes {
				if len(v.Used) == 0 {
					unused = append(unused, v.Name)
				}
			}
			return removeVolumes(cmd, store, unused, false)
		},
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "include volumes with a name; all volumes have names")
	cmd.Flags().BoolVarP(&force, "force", "f", false, "accepted for compatibility; it never asks")
	return offerJSON(cmd)
}
