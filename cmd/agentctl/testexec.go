package main

import (
	"debug/elf"
	"errors"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
)

func newTestExec() *cobra.Command {
	r := &runner{}
	cmd := &cobra.Command{
		Use:   "testexec [flags] TEST-BINARY [ARG...]",
		Short: "Run a Go package's tests in a machine, for 'go test -exec'",
		Long: `Run a test binary in a machine of its own, for 'go test -exec'. The directories of the
binary and of the module are mounted at the same paths as on this host, and the
variables GO... are passed on. A binary that is not static (cgo) needs a root with its
libraries: --image or --root. The machine has the kind of processor that the binary is
for, unless --platform names another.
` + exitHelp(runExit),
		Example: `  CGO_ENABLED=0 go test -exec 'agentctl testexec' ./...
  GOARCH=arm64 go test -exec 'agentctl testexec' ./...
  go test -exec 'agentctl testexec --image debian -m 2g' ./...`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := r.likeHere(args); err != nil {
				return err
			}
			r.entrypoint = []string{} // The test replaces the image's command.
			return r.run(cmd.Context(), args)
		},
	}
	r.register(cmd)
	return cmd
}

// likeHere gives the test the same directory in the machine as on this host.
func (r *runner) likeHere(args []string) error {
	binary, err := filepath.Abs(args[0])
	if err != nil {
		return err
	}
	args[0] = binary
	if r.image.platform == "" {
		r.image.platform = platformOf(binary)
	}
	if r.dir, err = os.Getwd(); err != nil {
		return err
	}
	root := moduleRoot(r.dir)
	r.mounts = append(r.mounts, root+":"+root)
	if dir := filepath.Dir(binary); !isBelow(dir, root) {
		r.mounts = append(r.mounts, dir+":"+dir)
	}
	r.nameFlags.env = append(r.nameFlags.env, "GOTRACEBACK", "GODEBUG", "GOMAXPROCS", "GOGC", "GOMEMLIMIT", "GOCOVERDIR")
	if r.by != "bootstrap" {
		return errors.New("testexec: --configure-by environment has no mounts")
	}
	return nil
}

// platformOf returns the platform that a program is for; "" if machines have no such one.
func platformOf(program string) string {
	f, err := elf.Open(program)
	if err != nil {
		return "" // The machine says what it is.
	}
	defer func() { _ = f.Close() }()
	return map[elf.Machine]string{elf.EM_X86_64: "linux/amd64", elf.EM_AARCH64: "linux/arm64"}[f.Machine]
}

// moduleRoot is the directory of the module that dir is in, or dir.
func moduleRoot(dir string) string {
	for d := dir; ; d = filepath.Dir(d) {
		if _, err := os.Stat(filepath.Join(d, "go.mod")); err == nil {
			return d
		}
		if d == filepath.Dir(d) {
			return dir
		}
	}
}

func isBelow(dir, root string) bool {
	rel, err := filepath.Rel(root, dir)
	return err == nil && filepath.IsLocal(rel)
}
