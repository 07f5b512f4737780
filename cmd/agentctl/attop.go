package main

import (
	"errors"
	"strings"

	"github.com/spf13/cobra"
)

// atTop returns a command of image under the name that container tools use at the top
// level.
func atTop(cmd *cobra.Command, name string) *cobra.Command {
	own, rest, _ := strings.Cut(cmd.Use, " ")
	cmd.Use = strings.TrimSpace(name + " " + rest)
	cmd.Long = "The same as 'agentctl image " + own + "'.\n\n" + cmd.Long
	cmd.Example = ""
	return cmd
}

// newTop is 'ps NAME' under its name in container tools.
func newTop() *cobra.Command {
	f := &psFlags{}
	return &cobra.Command{
		Use:               "top NAME",
		Short:             "List the processes in a machine",
		Long:              "List the processes in a running machine, as 'agentctl ps NAME' does, which has more flags.\n" + exitHelp(plainExit),
		ValidArgsFunction: completeNames,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return errors.New("it takes no options of ps; 'agentctl exec NAME -- ps ...' has the machine's own")
			}
			return cobra.ExactArgs(1)(nil, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return withClient(cmd, args[0], f.inside)
		},
	}
}

// newLoad is 'image import' of an archive under its name in container tools.
func newLoad() *cobra.Command {
	var f imageFlags
	var file string
	cmd := &cobra.Command{
		Use:   "load [-i FILE]",
		Short: "Import the images of an archive",
		Long: `Import the images of an archive of 'docker save'. 'agentctl image import' also imports
other sources. Without -i the archive is read from standard input.
` + exitHelp(plainExit),
		Example: `  agentctl load -i debian.tar
  docker save debian:12 | agentctl load`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.take(cmd, file, "")
		},
	}
	f.registerPlatform(cmd.Flags())
	cmd.Flags().StringVarP(&file, "input", "i", byStream, "`file` to read, or - for standard input")
	return offerJSON(cmd)
}
