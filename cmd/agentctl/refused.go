package main

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// A refusal is a flag of container tools that a machine cannot honour. It is defined so
// that the error can name a replacement.
type refusal struct {
	names string // NAME or NAME,SHORTHAND, joined by spaces.
	bool  bool   // It takes no value.
	use   string
}

const (
	ownKernel = "a machine has a kernel of its own, and shares no namespace with this host or another machine"
	noWeights = "a machine is a process of this host: bound it with --cpus, -m and --cpuset-cpus, or put agentctl into a control group (systemd-run --scope -p ...)"
	noNetwork = "machines have no network among themselves; --network user reaches what this host reaches, -p forwards a port into the machine, --add-host names an address"
	noLogger  = "'agentctl logs' has what the command prints; a program of this host can follow it with logs -f"
)

// refusals are flags of docker run and docker create, and of podman under other names.
var refusals = []refusal{
	{names: "annotation", use: "--label"},
	{names: "attach,a", use: "without -d output and error are the command's; -i passes standard input on"},
	{names: "blkio-weight blkio-weight-device device-read-bps device-read-iops device-write-bps device-write-iops", use: noWeights},
	{names: "cgroup-parent cgroupns cpu-count cpu-percent cpu-period cpu-quota cpu-rt-period cpu-rt-runtime cpu-shares,c cpuset-mems io-maxbandwidth io-maxiops", use: noWeights},
	{names: "memory-reservation memory-swap memory-swappiness kernel-memory oom-score-adj", use: noWeights},
	{names: "oom-kill-disable", bool: true, use: noWeights},
	detachKeys,
	{names: "device device-cgroup-rule gpus", use: "the devices are those of the machine's own kernel; --disk FILE attaches a block device or its image, -v a directory"},
	{names: "disable-content-trust", use: "images are checked against their digests"},
	{names: "domainname", use: "--hostname with dots"},
	{names: "expose", use: "-p publishes a port"},
	{names: "group-add", use: "-u USER:GROUP names one group; others of USER are those of the machine's /etc/group"},
	{names: "ip ip6 mac-address link link-local-ip network-alias net-alias", use: noNetwork},
	{names: "ipc isolation pid pod userns uts runtime", use: ownKernel},
	{names: "log-driver log-opt", use: noLogger},
	{names: "storage-opt", use: "--upper-size 8g"},
	{names: "sysctl", use: "the command can set it, being root of its own kernel: -- sh -c 'sysctl -w KEY=VALUE && exec COMMAND'"},
	{names: "use-api-socket", bool: true, use: "-v PATH:PATH shares no socket of this host with a machine"},
	{names: "volume-driver", use: "volumes are directories of this host: -v NAME:PATH, or -v DIR:PATH for one on a file system of your choice"},
	{names: "volumes-from", use: "-v NAME:PATH shows a volume to several machines"},
}

// detachKeys is a flag of commands with a terminal.
var detachKeys = refusal{names: "detach-keys", use: "^C and other signals go to the command; 'agentctl exec -it' enters a machine that runs in the background"}

// refuseFlags defines the flags of a table.
func refuseFlags(flags *pflag.FlagSet, refusals ...refusal) {
	for _, r := range refusals {
		for word := range strings.FieldsSeq(r.names) {
			name, short, _ := strings.Cut(word, ",")
			f := flags.VarPF(refusing{name, r.use}, name, short, "refused")
			f.Hidden = true
			if r.bool {
				f.NoOptDefVal = "true"
			}
		}
	}
}

// refusing is the value of a refused flag.
type refusing struct{ name, use string }

func (refusing) String() string     { return "" }
func (refusing) Type() string       { return "refused" }
func (v refusing) Set(string) error { return &refusedError{v.name, v.use} }

type refusedError struct{ name, use string }

// Error says what to use.
func (e *refusedError) Error() string { return fmt.Sprintf("a machine has no --%s: %s", e.name, e.use) }

// strict makes a command and its subcommands refuse errors that cobra ignores: unknown
// commands (cobra prints the help and succeeds), flags that take "--" as their value,
// doubtful values (checkValues), and flags that contradict each other (checkRules). A
// command without a check of its arguments' number gets the one of its usage line.
func strict(cmd *cobra.Command) {
	for _, c := range cmd.Commands() {
		strict(c)
	}
	if cmd.HasSubCommands() && cmd.Run == nil && cmd.RunE == nil {
		cmd.Args, cmd.RunE = onlyCommands, func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	}
	checkValues(cmd.Flags())
	cmd.SuggestionsMinimumDistance = nearest
	args := cmd.Args
	if args == nil {
		args = argumentsOf(cmd.Use)
	}
	if cmd.HasParent() {
		cmd.Args = func(cmd *cobra.Command, words []string) error {
			err := refuseDashes(cmd.Flags())
			if err == nil {
				err = checkRules(cmd)
			}
			if err != nil {
				return misuse(err)
			}
			return usageOf(cmd, args(cmd, words))
		}
	}
}

// flagWords are the words of a usage line that stand for flags.
var flagWords = regexp.MustCompile(` (\[(flags|-[^]]*)\]|-\w+)`)

// argumentsOf returns the check of a command's number of arguments, which its usage line
// says: words in brackets may be left out, and those with dots repeated.
func argumentsOf(use string) cobra.PositionalArgs {
	least, most := 0, 0
	for _, word := range strings.Fields(flagWords.ReplaceAllString(use, ""))[1:] {
		if !strings.HasPrefix(word, "[") || strings.Contains(word, "]") && !strings.HasSuffix(word, "]") {
			least++
		}
		most++
	}
	switch {
	case strings.Contains(use, "..."):
		return cobra.MinimumNArgs(least)
	case most == 0:
		return cobra.NoArgs
	case least == 0:
		return cobra.MaximumNArgs(most)
	case least == most:
		return cobra.ExactArgs(most)
	}
	return cobra.RangeArgs(least, most)
}

// group makes a command of subcommands. What long says of it is the short text if it is "".
func group(use, short, long string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Long: long}
	cmd.AddCommand(commands...)
	return cmd
}

// nearest is how many letters may differ between a word and a suggested command.
const nearest = 2

// newHelp replaces cobra's help command, which succeeds for an unknown command.
func newHelp() *cobra.Command {
	return &cobra.Command{
		Use: "help [COMMAND...]", Short: "Print the help of a command",
		RunE: func(cmd *cobra.Command, words []string) error {
			found, rest, err := cmd.Root().Find(words)
			if err != nil || len(rest) > 0 {
				return misuse(fmt.Errorf("help: no command %q; 'agentctl --help' lists them", strings.Join(words, " ")))
			}
			found.InitDefaultHelpFlag()
			return found.Help()
		},
	}
}

func onlyCommands(cmd *cobra.Command, words []string) error {
	if len(words) == 0 {
		return nil
	}
	text := fmt.Sprintf("unknown command %q for %q; '%s --help' lists them", words[0], cmd.CommandPath(), cmd.CommandPath())
	if there := elsewhere[words[0]]; there != "" && !cmd.HasParent() {
		return misuse(fmt.Errorf("unknown command %q: %s", words[0], there))
	}
	if near := cmd.SuggestionsFor(words[0]); len(near) > 0 {
		text += "; is it " + strings.Join(near, ", ") + "?"
	}
	return misuse(errors.New(text))
}

// refuseDashes refuses a flag that has taken the "--" before the command as its value.
func refuseDashes(flags *pflag.FlagSet) (err error) {
	flags.Visit(func(f *pflag.Flag) {
		value := f.Value.String()
		if list, ok := f.Value.(pflag.SliceValue); ok {
			value = strings.Join(list.GetSlice(), "\n")
		}
		if err == nil && (value == "--" || strings.HasSuffix("\n"+value, "\n--")) {
			err = fmt.Errorf("--%s has no value before --", f.Name)
			if f.Name == "init" {
				err = fmt.Errorf("%w: it names a program; agentd is an init already, which adopts and reaps orphans", err)
			}
		}
	})
	return err
}
