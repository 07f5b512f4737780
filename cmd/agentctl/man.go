//go:build man

package main

import (
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// extras are the additional commands of a build with the tag man, which writes manual
// pages (make man). So the generator is not part of the normal program.
func extras() []*cobra.Command { return []*cobra.Command{newMan()} }

func newMan() *cobra.Command {
	return &cobra.Command{
		Use: "man DIR", Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			const readable = 0o755
			if err := os.MkdirAll(args[0], readable); err != nil {
				return err
			}
			root := cmd.Root()
			root.DisableAutoGenTag = true // The same program gives the same pages.
			return doc.GenManTree(root, &doc.GenManHeader{Title: "AGENTCTL", Section: "1", Source: "agentctl", Manual: "agentctl"}, args[0])
		},
	}
}
