package main

import (
	"cmp"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set by the linker for a release (make release); "" means no release.
var version string

// A build is the output of version --json.
type build struct {
	Version  string `json:"version"`            // The module's version, or devel.
	Commit   string `json:"commit,omitempty"`   // The commit that it was built from.
	Modified bool   `json:"modified,omitempty"` // The tree had uncommitted changes.
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// thisVersion returns the build information of this program.
func thisVersion() build {
	v := build{Version: cmp.Or(version, "devel"), Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if version == "" && info.Main.Version != "" && info.Main.Version != "(devel)" {
		v.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Commit = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		}
	}
	return v
}

// String returns one line.
func (v build) String() string {
	s := "agentctl " + v.Version
	if v.Commit != "" {
		const enough = 12
		s += " (" + v.Commit[:min(len(v.Commit), enough)] + ")"
	}
	return fmt.Sprintf("%s, %s %s", s, v.Go, v.Platform)
}

func newVersion() *cobra.Command {
	var text string
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Long:  "Print the version of this program and of the agent that is built into it.\n" + exitHelp(plainExit),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if wantsJSON(cmd) {
				return writeJSON(os.Stdout, thisVersion())
			}
			if text != "" {
				return printEach(os.Stdout, text, []build{thisVersion()}, func(v build) any { return versionView{v} }, nil)
			}
			_, err := fmt.Println(thisVersion())
			return err
		},
	}
	cmd.Flags().StringVarP(&text, "format", "f", "", formatHelp)
	return offerJSON(cmd)
}

// A versionView is the version for a template: client and server are one program.
type versionView struct{ build }

// Client is this program.
func (v versionView) Client() build { return v.build }

// Server is this program too.
func (v versionView) Server() build { return v.build }
