package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/agentd-go/agentd/internal/machines"
	"github.com/agentd-go/agentd/internal/transfer"
)

func newSnapshot() *cobra.Command {
	return group("snapshot", "Manage snapshots of machines: their memory, devices and disks at one moment", `Manage snapshots of machines. A snapshot has a machine's memory, its devices and copies
of its disks at one moment. 'agentctl restore' makes machines of it, as many as wanted.
It has all that the machine knew: keys and passwords in memory too.`,
		newSnapshotCreate(), newSnapshotList(), newSnapshotInspect(), newSnapshotRemove(), newSnapshotExport(), newSnapshotImport())
}

// savedNote is the part of the help about which machines can be saved.
const savedNote = `
The machine may have no directories of this host (-v, --root, and with --cold also
those of its own), no TAP cards and no --init, and needs a cgroup v2 in its kernel.
`

func newSnapshotCreate() *cobra.Command {
	return offerJSON(&cobra.Command{
		Use:   "create MACHINE SNAPSHOT",
		Short: "Save a running machine, which goes on",
		Long: `Save a running machine under a name. Its commands stand still meanwhile and then go on.
If that fails they go on too, and there is no snapshot.
` + savedNote + exitHelp(plainExit),
		RunE: inStore(func(cmd *cobra.Command, store *machines.Store, args []string) error {
			ctx, stop := interruptible(cmd)
			defer stop()
			m, err := lookup(args[0])
			if err != nil {
				return err
			}
			finished := awaiting("saving " + m.Name())
			err = store.MakeSnapshot(ctx, m, args[1])
			finished()
			if err != nil {
				return advise(err)
			}
			return tellSnapshots(cmd, store, args[1:])
		}),
	})
}

// tellSnapshots prints the names of snapshots, or all about them as JSON.
func tellSnapshots(cmd *cobra.Command, store *machines.Store, names []string) error {
	all, err := collect(names, store.Snapshot)
	if err != nil {
		return advise(err)
	}
	return tell(cmd, all, func(s machines.Snapshot) string { return s.Name })
}

func newSnapshotList() *cobra.Command {
	var quiet bool
	cmd := &cobra.Command{
		Use:   "ls [flags]",
		Short: "List the snapshots",
		Long:  "List the snapshots, the oldest first. One that cannot be read is an error, after the list of the others.\n" + exitHelp(plainExit),
		RunE: inStore(func(cmd *cobra.Command, store *machines.Store, _ []string) error {
			all, err := store.Snapshots()
			if quiet || wantsJSON(cmd) {
				return errors.Join(tell(cmd, all, func(s machines.Snapshot) string { return s.Name }), err)
			}
			w := table("NAME", "MACHINE", "MADE", "MEMORY", "SIZE", "IMAGE")
			for _, s := range all {
				row(w, s.Name, s.Machine, ago(s.Made), fmt.Sprint(s.MemoryMiB, "m"), transfer.Size(s.Size), s.Image)
			}
			return errors.Join(w.Flush(), err)
		}),
	}
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "names only")
	return offerJSON(cmd)
}

func newSnapshotInspect() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "inspect SNAPSHOT...",
		Short: "Print all details of snapshots",
		Long:  "Print a list of snapshots as JSON, with the QEMU and the processor that they need.\n" + exitHelp(plainExit),
		RunE: inStore(func(_ *cobra.Command, store *machines.Store, args []string) error {
			all, err := collect(args, store.Snapshot)
			if err != nil {
				return advise(err)
			}
			return writeJSON(os.Stdout, all)
		}),
	}
	cmd.Flags().Bool("json", true, "as JSON; it always is")
	return cmd
}

func newSnapshotRemove() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "rm [-f] SNAPSHOT...",
		Short: "Remove snapshots",
		Long:  "Remove snapshots. Machines that were made of one stay as they are.\n" + exitHelp(plainExit),
		RunE: inStore(func(cmd *cobra.Command, store *machines.Store, args []string) error {
			return removeEach(cmd, args, func(name string) error { return advise(store.RemoveSnapshot(name)) }, force, machines.ErrNoSnapshot)
		}),
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "a missing snapshot is no error")
	return offerJSON(cmd)
}

// restoreFlags say how a new machine differs from that of a snapshot.
type restoreFlags struct {
	machineID bool
	paused    bool
}

func (f *restoreFlags) register(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.machineID, "machine-id", false, "give the machine another /etc/machine-id")
	cmd.Flags().BoolVar(&f.paused, "paused", false, "leave the machine paused; 'agentctl resume' continues it")
}

// twinNote is the part of the help about what is different in a new machine.
const twinNote = `
Before anything runs, the new machine gets other random numbers, the right time, its
name as the host name and another boot id; TCP connections with other hosts are reset.
Its commands go on; their clients are gone, so their output is discarded and their input
ends. Then the programs in /.msb/restored.d run, in the order of their names.
`

func newRestore() *cobra.Command {
	f := &restoreFlags{}
	var name, hostname string
	var ports []string
	cmd := &cobra.Command{
		Use:   "restore [flags] SNAPSHOT",
		Short: "Make a machine of a snapshot, and let it go on",
		Long: `Make a machine of a snapshot, and let it go on where the machine of the snapshot was.
All files are checked first. A snapshot that was made with another QEMU, kernel or
processor is refused. The snapshot stays as it is.
` + twinNote + exitHelp(startExit),
		RunE: inStore(func(cmd *cobra.Command, store *machines.Store, args []string) (err error) {
			q := machines.RestoreRequest{Name: name, Hostname: hostname, MachineID: f.machineID}
			if q.Ports, err = parsePorts(ports); err != nil {
				return misuse(err)
			}
			ctx, stop := interruptible(cmd)
			defer stop()
			snap, err := store.Snapshot(args[0])
			if err != nil {
				return advise(err)
			}
			if q.Name == "" {
				q.Name = store.NewName()
			}
			if err := f.restore(ctx, store, snap, q); err != nil {
				return advise(err)
			}
			return tellMade(q.Name, wantsJSON(cmd))
		}),
	}
	cmd.Flags().StringVar(&name, "name", "", "`name` of the machine (default: one is made up)")
	cmd.Flags().StringVar(&hostname, "hostname", "", "host `name` of the machine (default: the machine's name)")
	cmd.Flags().StringArrayVarP(&ports, "publish", "p", nil, "forward a port of this host into the machine: `[[ADDRESS:]PORT:]PORT`; those of the snapshot's machine are not kept")
	f.register(cmd)
	return offerJSON(cmd)
}

// restore makes one machine and lets it go on. Nothing of it is left after an error.
func (f *restoreFlags) restore(ctx context.Context, store *machines.Store, snap machines.Snapshot, q machines.RestoreRequest) error {
	defer awaiting("restoring " + q.Name)()
	m, err := store.Restore(ctx, snap, q)
	if err != nil || f.paused {
		return err
	}
	if err := resume(ctx, m); err != nil {
		return errors.Join(err, m.Remove(context.WithoutCancel(ctx)))
	}
	return nil
}

func newFork() *cobra.Command {
	f := &restoreFlags{}
	cmd := &cobra.Command{
		Use:   "fork [flags] MACHINE NEW...",
		Short: "Make copies of a running machine, which go on where it is",
		Long: `Make copies of a running machine: with its memory, its commands and its disks. The
machine itself goes on.
` + twinNote + savedNote + exitHelp(startExit),
		ValidArgsFunction: completeNames,
		RunE: inStore(func(cmd *cobra.Command, store *machines.Store, args []string) error {
			ctx, stop := interruptible(cmd)
			defer stop()
			m, err := lookup(args[0])
			if err != nil {
				return err
			}
			for _, name := range args[1:] {
				err = errors.Join(err, store.Free(name))
			}
			if err != nil {
				return advise(err)
			}
			snap, discard, err := store.PassingSnapshot(ctx, m)
			if err != nil {
				return advise(err)
			}
			made, err := forEach(args[1:], func(name string) (string, error) {
				return name, f.restore(ctx, store, snap, machines.RestoreRequest{Name: name, MachineID: f.machineID})
			})
			return errors.Join(advise(err), discard(), tellForks(cmd, made))
		}),
	}
	f.register(cmd)
	return offerJSON(cmd)
}

func tellForks(cmd *cobra.Command, made []string) error {
	if !wantsJSON(cmd) {
		for _, name := range made {
			fmt.Println(name)
		}
		return nil
	}
	all, err := forEach(made, changed)
	return errors.Join(err, writeJSON(os.Stdout, all))
}

func newPause() *cobra.Command {
	return offerJSON(&cobra.Command{
		Use:   "pause MACHINE...",
		Short: "Write machines' memory to the disk, and free it on this host",
		Long: `Pause machines: their commands stand still, their memory is written to the disk, and
nothing of them takes this host's memory or processors but their supervisors. Clients
stay connected and wait. 'agentctl resume' continues them, also after their supervisors
were killed or this host was restarted. The clients are gone then.
` + savedNote + exitHelp(plainExit),
		ValidArgsFunction: completeNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			return eachMachine(cmd, args, func(ctx context.Context, m *machines.Machine) error {
				defer awaiting("pausing " + m.Name())()
				return advise(m.Pause(ctx))
			})
		},
	})
}

func newResume() *cobra.Command {
	return offerJSON(&cobra.Command{
		Use:     "resume MACHINE...",
		Aliases: []string{"unpause"},
		Short:   "Continue paused machines",
		Long: `Continue paused machines, and return when they serve. No byte of a command's output is
lost. TCP connections with other hosts are reset, because the network has forgotten them.
` + exitHelp(startExit),
		ValidArgsFunction: completeNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			return eachMachine(cmd, args, func(ctx context.Context, m *machines.Machine) error {
				defer awaiting("resuming " + m.Name())()
				return advise(resume(ctx, m))
			})
		},
	})
}

// resume continues a paused machine, by a new supervisor if it has none.
func resume(ctx context.Context, m *machines.Machine) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	notes, err := m.Resume(ctx, self, "supervise", m.Name())
	tellNotes(ctx, notes...)
	return err
}
