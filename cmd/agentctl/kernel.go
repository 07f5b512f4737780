package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/agentd-go/agentd/internal/machines"
	"github.com/agentd-go/agentd/sandbox"
)

const plainExit = "  0  done\n  2  the arguments or flags are wrong; nothing was done\n  125  failed; the error is on standard error\n"

func newKernel() *cobra.Command {
	return group("kernel", "Manage the kernels that machines boot", "",
		newKernelImport(), newKernelFetch(), newKernelList(), newKernelRemove())
}

func newKernelImport() *cobra.Command {
	return offerJSON(&cobra.Command{
		Use:   "import FILE...",
		Short: "Import a kernel",
		Long: `Import a kernel into the cache. FILE is one of

  a Debian package with a kernel (linux-image-*.deb; where the modules are in a
  package of their own, both together)
  libkrunfw.so, the library that has a kernel inside
  a bare kernel image (bzImage or vmlinux; Image for arm64), which may be compressed

A file's type is detected by its content, not by its name.
` + exitHelp(plainExit),
		RunE: func(cmd *cobra.Command, args []string) error {
			return showImported(cmd)(inCache(func(c *sandbox.Cache) (sandbox.Kernel, error) { return c.ImportKernel(args...) }))
		},
	})
}

func newKernelFetch() *cobra.Command {
	var platform string
	cmd := &cobra.Command{
		Use:   "fetch",
		Short: "Download the distribution's newest small kernel and import it",
		Long: `Download the newest small kernel of this host's distribution (Debian's for
clouds, Ubuntu's for virtual machines) by apt-get, and import it with its modules.
Nothing is installed, and no root is needed.

With --platform it is a kernel for machines of that platform. For another kind of
processor than this host's the program of the small root is fetched too.
` + exitHelp(plainExit),
		Example: "  agentctl kernel fetch --platform linux/arm64",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := sandbox.ParsePlatform(platform); err != nil {
				return misuse(fmt.Errorf("--%w", err))
			}
			return showImported(cmd)(inCache(func(c *sandbox.Cache) (sandbox.Kernel, error) {
				return c.FetchKernelFor(cmd.Context(), platform)
			}))
		},
	}
	cmd.Flags().StringVar(&platform, "platform", sandbox.HostPlatform, "`OS/ARCHITECTURE` of the machines")
	return offerJSON(cmd)
}

func showImported(cmd *cobra.Command) func(sandbox.Kernel, error) error {
	return func(k sandbox.Kernel, err error) error {
		if err != nil {
			return err
		}
		if wantsJSON(cmd) {
			return writeJSON(os.Stdout, k)
		}
		fmt.Fprintln(os.Stderr, "imported", plain(k.Name))
		return nil
	}
}

func newKernelList() *cobra.Command {
	return offerJSON(&cobra.Command{
		Use:   "ls",
		Short: "List the imported kernels, the newest first",
		Long:  "List the imported kernels, the newest first.\n" + exitHelp(plainExit),
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := inCache((*sandbox.Cache).Kernels)
			if err != nil {
				return err
			}
			if wantsJSON(cmd) {
				return writeJSON(os.Stdout, all)
			}
			w := table("NAME", "ID", "PLATFORM", "RELEASE", "MODULES", "IMPORTED")
			for _, k := range all {
				row(w, k.Name, shortID(k.ID), k.Platform, k.Release, k.Modules, k.Imported.Format("2006-01-02 15:04"))
			}
			return w.Flush()
		},
	})
}

func newKernelRemove() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "rm [-f] NAME...",
		Short: "Remove kernels",
		Long: `Remove kernels with their modules. NAME is a name, or the first eight or more
characters of an ID. If several kernels have the name, it must be an ID. Without -f a
kernel is refused if a machine uses it by name (--kernel). With -f such a machine
continues to run, but cannot be started again.
` + exitHelp(plainExit),
		RunE: func(cmd *cobra.Command, args []string) error {
			gone, err := forEach(args, func(name string) (sandbox.Kernel, error) { return removeKernel(name, force) })
			if wantsJSON(cmd) {
				return errors.Join(err, writeJSON(os.Stdout, gone))
			}
			for _, k := range gone {
				fmt.Fprintln(os.Stderr, "removed", plain(k.Name), shortID(k.ID))
			}
			return err
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "even if machines use it")
	return offerJSON(cmd)
}

func removeKernel(name string, force bool) (sandbox.Kernel, error) {
	if !force {
		users, err := usersOfKernel(name)
		if err != nil {
			return sandbox.Kernel{}, err
		}
		if len(users) > 0 {
			return sandbox.Kernel{}, fmt.Errorf("kernel %s: machine %s names it; remove that first, or run 'agentctl kernel rm -f %s'", name, strings.Join(users, ", "), name)
		}
	}
	return inCache(func(c *sandbox.Cache) (sandbox.Kernel, error) { return c.RemoveKernel(name) })
}

// usersOfKernel returns the names of machines that use a kernel by its name or ID.
func usersOfKernel(name string) (users []string, err error) {
	kernels, err := inCache((*sandbox.Cache).Kernels)
	if err != nil {
		return nil, err
	}
	store, err := machines.Open("")
	if err != nil {
		return nil, err
	}
	all, err := store.List()
	for _, m := range all {
		named := m.Record().Config.Kernel
		for _, k := range kernels {
			if named != "" && k.Is(name) && k.Is(named) {
				users = append(users, m.Name())
				break
			}
		}
	}
	return users, err
}
