package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// A rule names flags that exclude each other: any two of flags or, if against is not
// empty, any of flags with any of against. A flag with the value false counts as not
// given.
type rule struct {
	commands string // Commands without the program's name, separated by commas.
	flags    string // Flags separated by blanks.
	against  string
	why      string
}

// starters are the commands with flags for a new machine.
const starters = "run,create,testexec,boot-times,debug plan"

const inBackground = "; without a command the machine stays (--entrypoint \"\" where its image has one), and 'agentctl exec -it' works in it"

// rules are all rules. checkRules enforces them. A test tries every pair of switches,
// so a new pair must be declared here or in the test.
var rules = []rule{
	{starters, "image root", "", "a machine has one root"},
	{starters, "cold warm", "", "want one of them"},
	{"run,create,testexec", "no-healthcheck", "health-cmd health-interval health-timeout health-retries health-start-period health-start-interval", "want one of them"},
	{"run,create", "survive", "warm", "a machine from a template ends with its supervisor"},
	{"forward", "auto reverse", "", "each is a direction of its own: run forward twice"},
	{"snapshot ls", "json quiet", "", "each chooses what is printed"},
	{"exec", "privileged", "socket", "a socket does not tell with which --security its machine was made"},
	{"ps", "json format quiet", "", "each chooses what is printed"},
	{"ps", "json", "tree", "JSON has the parent of each process"},
	{"ps", "last latest", "", "each says how many machines are listed"},
	{"inspect", "json format", "", "each chooses what is printed; '{{json .}}' is JSON of a template"},
	{"image ls,images", "json quiet format", "", "each chooses what is printed"},
	{"image ls,images", "quiet", "digests", "IDs alone are printed"},
	{"stats,system df,version,image inspect,volume inspect", "json format", "", "each chooses what is printed"},
	{"volume ls", "json quiet format", "", "each chooses what is printed"},
	{"logs", "console agent supervisor cmd", "", "each is a log of its own"},
	{"logs", "cmd", "timestamps since until tail json", "the output of a kept command is bytes without times"},
	{"ps", "kept", "all quiet tree latest pods format filter last", "kept commands are of one machine"},
	{"attach", "interactive", "no-stdin", "want one of them"},
	{"logs", "console agent supervisor", "timestamps since until", "this log has no times; those are of a command's output"},
}

// A need is a flag that has a meaning only together with another.
type need struct{ command, flag, other, why string }

var needs = []need{
	{"run", "survive", "detach", "agentctl itself supervises the machine then, and it ends with agentctl"},
	{"run", "json", "detach", "standard output is the command's without it"},
	{"exec", "detach-keys", "name", "a command that is not kept cannot be left"},
}

// A constant is a switch that is always on. It exists for users of other tools.
type constant struct{ command, flag, why string }

var constants = []constant{
	{"ps", "no-trunc", "whole texts are all that is printed"},
	{"stats", "no-trunc", "whole texts are all that is printed"},
	{"attach", "no-stdin", "no input is passed on; 'agentctl exec -i' does"},
	{"inspect", "json", "what is printed is JSON, or a template's with -f"},
	{"image inspect", "json", "what is printed is JSON"},
	{"volume inspect", "json", "what is printed is JSON"},
	{"snapshot inspect", "json", "what is printed is JSON"},
}

// checkRules refuses flags of a command line that exclude each other.
func checkRules(cmd *cobra.Command) error {
	path, flags := pathOf(cmd), cmd.Flags()
	for _, r := range rules {
		if a, b := r.broken(path, flags); a != "" {
			return fmt.Errorf("%s: --%s and --%s: %s", path, a, b, r.why)
		}
	}
	for _, n := range needs {
		if n.command == path && given(flags, n.flag) && !given(flags, n.other) {
			return fmt.Errorf("%s: --%s without --%s: %s", path, n.flag, n.other, n.why)
		}
	}
	for _, c := range constants {
		if c.command == path && flags.Changed(c.flag) && !given(flags, c.flag) {
			return fmt.Errorf("%s: --%s=false: %s", path, c.flag, c.why)
		}
	}
	return nil
}

// broken returns two given flags that exclude each other, or "".
func (r rule) broken(path string, flags *pflag.FlagSet) (a, b string) {
	if !slices.Contains(strings.Split(r.commands, ","), path) {
		return "", ""
	}
	for _, pair := range r.pairs() {
		if given(flags, pair[0]) && given(flags, pair[1]) {
			return pair[0], pair[1]
		}
	}
	return "", ""
}

// pairs returns all pairs that a rule excludes.
func (r rule) pairs() (all [][2]string) {
	flags := strings.Fields(r.flags)
	for i, a := range flags {
		others := flags[i+1:]
		if r.against != "" {
			others = strings.Fields(r.against)
		}
		for _, b := range others {
			all = append(all, [2]string{a, b})
		}
	}
	return all
}

// given reports whether a flag is on the command line and not set to false.
func given(flags *pflag.FlagSet, name string) bool {
	f := flags.Lookup(name)
	return f != nil && f.Changed && (f.Value.Type() != "bool" || f.Value.String() == "true")
}

// elsewhere maps commands of container tools that we lack to advice.
var elsewhere = map[string]string{
	"build":     "images are built elsewhere (docker save, buildah); 'agentctl image import' takes the archive or its directory",
	"buildx":    "images are built elsewhere; 'agentctl image import' takes the archive",
	"commit":    "a machine's root becomes an image by 'agentctl tar NAME:/ >root.tar' and 'agentctl image import root.tar'",
	"compose":   "machines are started one by one, with 'agentctl run -d'",
	"container": "the command stands alone: 'agentctl run', 'agentctl ps', 'agentctl rm'",
	"diff":      "what a machine has written is not listed; 'agentctl tar NAME:/' has all of its files",
	"events":    "'agentctl wait NAME' waits for an end, 'agentctl ps --json' has the states",
	"export":    "'agentctl tar NAME:/' writes a machine's files as an archive",
	"history":   "'agentctl image inspect NAME' has the layers",
	"info":      "'agentctl version' has the version, 'agentctl kernel ls' and 'agentctl image ls' what there is",
	"login":     "credentials are those of 'docker login' or 'podman login', in ~/.docker/config.json",
	"logout":    "credentials are those of 'docker login' or 'podman login', in ~/.docker/config.json",
	"network":   noNetwork,
	"push":      "'agentctl image save' writes an archive, which skopeo or docker pushes",
	"search":    "registries are not searched; 'agentctl pull REFERENCE' fetches what is named",
	"swarm":     "machines run on this host alone",
	"update":    "a machine is changed by making it again: 'agentctl rm' and 'agentctl create'",
}
