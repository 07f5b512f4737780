package main

import (
	"bytes"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// machineSwitches are those of what starts a machine, which all go together.
const (
	machineSwitches = "keep privileged read-only sig-proxy"
	stayingSwitches = machineSwitches + " no-healthcheck publish-all"
)

// eitherWay are groups with each of the two ways to start.
func eitherWay(groups ...string) (all []string) {
	for _, g := range groups {
		all = append(all, g+" cold", g+" warm")
	}
	return all
}

// surviving is eitherWay for a command with --survive, which goes with --cold alone.
func surviving(group string) []string { return append(eitherWay(group), group+" cold survive") }

// independent are the switches of each command that can be given together, in groups:
// two of one group are independent of each other. A command with one switch at most has
// no entry.
var independent = map[string][]string{
	"attach":       {"no-stdin sig-proxy", "interactive sig-proxy"},
	"boot-times":   eitherWay(machineSwitches + " json"),
	"cp":           {"archive json quiet recursive"},
	"create":       surviving(stayingSwitches + " json quiet interactive tty"),
	"debug frames": {"interactive tty"},
	"debug plan":   eitherWay(machineSwitches + " json"),
	"debug stacks": {"all json"},
	"exec":         {"interactive privileged tty detach"},
	"forward":      {"auto json"},
	"image ls":     {"all digests json no-trunc", "all no-trunc quiet"},
	"images":       {"all digests json no-trunc", "all no-trunc quiet"},
	"image prune":  {"all force json"},
	"image pull":   {"json quiet"},
	"image rm":     {"force json"},
	"logs":         {"agent follow json", "console follow json", "follow json supervisor", "follow json timestamps"},
	"ports":        {"json watch"},
	"ps":           {"all json latest no-trunc", "all latest no-trunc quiet", "all latest no-trunc tree", "quiet tree", "all json latest no-trunc pods", "all latest no-trunc pods quiet", "pods tree", "json kept no-trunc"},
	"pull":         {"json quiet"},
	"rm":           {"force json volumes"},
	"rmi":          {"force json"},
	"sync":         {"archive delete dry-run json quiet"},
	"system prune": {"all force json snapshots volumes"},
	"kernel rm":    {"force json"},
	"run":          surviving(stayingSwitches + " quiet rm detach json interactive tty"),
	"stats":        {"all json no-stream no-trunc"},
	"testexec":     eitherWay(stayingSwitches),
	"volume prune": {"all force json"},
	"volume rm":    {"force json"},
	"watch":        {"json recursive"},
	"snapshot rm":  {"force json"},
	"restore":      {"json machine-id paused"},
	"fork":         {"json machine-id paused"},
}

// TestSwitches walks through every pair of switches of every command: each is excluded
// by a rule or declared to be independent, and not both.
func TestSwitches(t *testing.T) {
	seen := map[string]bool{}
	walk(newRoot(), func(cmd *cobra.Command) {
		path := pathOf(cmd)
		seen[path] = true
		switches := switchesOf(cmd)
		for i, a := range switches {
			for _, b := range switches[i+1:] {
				free, not := isIndependent(path, a, b), excluded(path, a, b)
				if free == not {
					t.Errorf("%s: --%s and --%s: independent %v, excluded %v: declare one of them, here or in rules", path, a, b, free, not)
				}
				if !not {
					continue
				}
				if err := typed(path, "--"+a, "--"+b); err == nil || !strings.Contains(err.Error(), "--"+a) || !strings.Contains(err.Error(), "--"+b) {
					t.Errorf("%s --%s --%s: %v, want an error with both", path, a, b, err)
				}
			}
		}
		for _, group := range independent[path] {
			for name := range strings.FieldsSeq(group) {
				if !slices.Contains(switches, name) {
					t.Errorf("%s: --%s is no switch of it", path, name)
				}
			}
		}
	})
	for path := range independent {
		if !seen[path] {
			t.Errorf("%s: no such command", path)
		}
	}
}

// What rules say is of flags that there are.
func TestRules(t *testing.T) {
	known := map[string]*pflag.FlagSet{}
	walk(newRoot(), func(cmd *cobra.Command) { known[pathOf(cmd)] = cmd.Flags() })
	check := func(path string, names ...string) {
		t.Helper()
		for _, name := range names {
			if known[path] == nil || known[path].Lookup(name) == nil {
				t.Errorf("%s has no --%s", path, name)
			}
		}
	}
	for _, r := range rules {
		for path := range strings.SplitSeq(r.commands, ",") {
			check(path, strings.Fields(r.flags+" "+r.against)...)
		}
	}
	for _, n := range needs {
		check(n.command, n.flag, n.other)
	}
	for _, c := range constants {
		check(c.command, c.flag)
		if err := typed(c.command, "--"+c.flag+"=false"); err == nil || !strings.Contains(err.Error(), "--"+c.flag+"=false") {
			t.Errorf("%s --%s=false: %v", c.command, c.flag, err)
		}
	}
	for _, path := range carriers {
		if known[path] == nil {
			t.Errorf("no command %s", path)
		}
	}
}

// TestValues types into every flag of every command what would be guessed at.
func TestValues(t *testing.T) {
	odd := map[string][]string{
		"string":   {""},
		"int":      {"", " 1", "1 ", "+1", "010", "0x2", "1.5", "1e3", "-2", "two", "2147483648", "9223372036854775808"},
		"duration": {"", "30", "-5s", "1 s", "s"},
		"bool":     {"maybe", "yes"},
	}
	walk(newRoot(), func(cmd *cobra.Command) {
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			for _, value := range odd[f.Value.Type()] {
				if value == "" && slices.Contains(mayBeEmpty, f.Name) {
					continue
				}
				err := typed(pathOf(cmd), "--"+f.Name+"="+value)
				if err == nil || !strings.HasPrefix(err.Error(), "--"+f.Name+" ") {
					t.Errorf("%s --%s=%q: %v", pathOf(cmd), f.Name, value, err)
				}
			}
			if _, bounded := bounds[f.Name]; f.Value.Type() == "int" && !bounded {
				t.Errorf("%s: --%s has no bounds", pathOf(cmd), f.Name)
			}
		})
	})
}

// A flag that has one value takes its last, as containers' tools do.
func TestLastWins(t *testing.T) {
	r := newRoot()
	run, _, err := r.Find([]string{"run"})
	if err != nil {
		t.Fatal(err)
	}
	if err := run.ParseFlags([]string{"--cpus", "1", "--net", "none", "-m", "1g", "--cpus", "2", "--network", "user", "-m", "2g"}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"cpus": "2", "network": "user", "memory": "2g"} {
		if got := run.Flags().Lookup(name).Value.String(); got != want {
			t.Errorf("--%s is %s, want %s", name, got, want)
		}
	}
}

// A name beside --socket is not taken for the command.
func TestSocketInPlaceOfName(t *testing.T) {
	err := typed("exec", "--socket", "/none", "dev", "--", "ps")
	if err == nil || !strings.Contains(err.Error(), `"dev" stands before --`) {
		t.Error(err)
	}
	for _, args := range [][]string{{"--", "dev", "--", "ps"}, {"grep", "-x"}} {
		if err := typed("exec", append([]string{"--socket", "/none"}, args...)...); err == nil || !strings.Contains(err.Error(), "/none") {
			t.Errorf("%v: %v", args, err)
		}
	}
}

// Words that are no command end with a hint at every level, and none is one.
func TestUnknownCommands(t *testing.T) {
	for words, want := range map[string]string{
		"imge": "is it image", "image improt": "is it import", "kernel lss": "is it ls", "volume craete": "is it create",
		"debug frmaes": "is it frames", "nonsense": "'agentctl --help' lists them", "help nonsense": "'agentctl --help' lists them",
	} {
		if err := typed("", strings.Fields(words)...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", words, err, want)
		}
	}
	for _, word := range slices.Collect(maps.Keys(elsewhere)) {
		if err := typed("", word); err == nil || !strings.Contains(err.Error(), elsewhere[word]) {
			t.Errorf("%s: %v", word, err)
		}
	}
}

// typed types a command line that must fail before anything is done. It returns the
// error as a person sees it.
func typed(path string, args ...string) error {
	root := newRoot()
	root.SetOut(io.Discard)
	root.SetErr(&bytes.Buffer{})
	root.SetArgs(append(strings.Fields(path), args...))
	cmd, err := root.ExecuteC()
	return withStatus(cmd, err)
}

func walk(cmd *cobra.Command, each func(*cobra.Command)) {
	if cmd.HasParent() && cmd.Name() != "completion" && cmd.Parent().Name() != "completion" {
		each(cmd)
	}
	for _, c := range cmd.Commands() {
		walk(c, each)
	}
}

// switchesOf are the flags of a command that are on or off, but for --help, which wins.
func switchesOf(cmd *cobra.Command) (all []string) {
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if strings.HasPrefix(f.Value.Type(), "bool") && f.Name != "help" {
			all = append(all, f.Name)
		}
	})
	return all
}

func isIndependent(path, a, b string) bool {
	return slices.ContainsFunc(independent[path], func(group string) bool {
		names := strings.Fields(group)
		return slices.Contains(names, a) && slices.Contains(names, b)
	})
}

func excluded(path, a, b string) bool {
	return slices.ContainsFunc(rules, func(r rule) bool {
		pairs := r.pairs()
		return slices.Contains(strings.Split(r.commands, ","), path) && (slices.Contains(pairs, [2]string{a, b}) || slices.Contains(pairs, [2]string{b, a}))
	})
}
