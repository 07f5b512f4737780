package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/agentd-go/agentd/internal/machines"
)

func newDisk() *cobra.Command {
	return group("disk", "Manage the disks of running machines", "Manage the disks of running machines.",
		newDiskGrow())
}

func newDiskGrow() *cobra.Command {
	return &cobra.Command{
		Use:   "grow NAME SIZE",
		Short: "Make the disk of a machine's root larger",
		Long: `Make the disk that holds the root of a running machine as large as SIZE, with the
file system on it: the upper of an image, or the image where that is a disk. Files
stay in use. A disk never becomes smaller. The disk's file takes space on this host
only for what the machine writes.
` + exitHelp(plainExit),
		Example:           `  agentctl disk grow dev 20g`,
		ValidArgsFunction: completeNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			mib, err := machines.ParseSize(args[1])
			if err != nil {
				return misuse(fmt.Errorf("disk grow: size %w", err))
			}
			ctx, stop := interruptible(cmd)
			defer stop()
			m, _, err := lookupRunning(args[0])
			if err != nil {
				return err
			}
			return m.Grow(ctx, int64(mib)<<20)
		},
	}
}
