package main

import (
	"context"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/agentd-go/agentd/internal/machines"
)

func newSnapshotExport() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "export [-o FILE] SNAPSHOT",
		Short: "Write a snapshot to an archive",
		Long: `Write a snapshot to one compressed archive, for 'agentctl snapshot import' on a host
with the same QEMU, kernel and processor. All files are checked first. The archive has
all that the machine knew: keys and passwords in memory too.
` + exitHelp(plainExit),
		RunE: func(cmd *cobra.Command, args []string) error {
			return untilSignal(cmd.Context(), func(ctx context.Context) error {
				store, err := machines.Open("")
				if err != nil {
					return err
				}
				save := func(to io.Writer) error { return advise(store.ExportSnapshot(ctx, args[0], to)) }
				return writeOutput(file, save)
			})
		},
	}
	cmd.Flags().StringVarP(&file, "output", "o", "", "`file` to write instead of standard output")
	return cmd
}

func newSnapshotImport() *cobra.Command {
	return offerJSON(&cobra.Command{
		Use:   "import FILE SNAPSHOT",
		Short: "Make a snapshot of an archive",
		Long: `Make a snapshot of an archive of 'agentctl snapshot export'; the file - is standard
input. All of it is checked against its digests. Take archives only from those you
trust: QEMU does.
` + exitHelp(plainExit),
		RunE: func(cmd *cobra.Command, args []string) error {
			return untilSignal(cmd.Context(), func(ctx context.Context) error {
				store, err := machines.Open("")
				if err != nil {
					return err
				}
				in := os.Stdin
				if args[0] != "-" {
					if in, err = os.Open(args[0]); err != nil {
						return err
					}
					defer func() { _ = in.Close() }() // Read only.
				}
				if err := store.ImportSnapshot(ctx, args[1], in); err != nil {
					return advise(err)
				}
				return tellSnapshots(cmd, store, args[1:])
			})
		},
	})
}
