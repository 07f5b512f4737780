package bootenv_test

import (
	"errors"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/bootenv"
)

// What docs/BOOT.md lists is what the code knows, and the other way round.
func TestDocument(t *testing.T) {
	t.Parallel()
	document, err := os.ReadFile("../../docs/BOOT.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("names.go")
	if err != nil {
		t.Fatal(err)
	}
	name := regexp.MustCompile(`\b(?:MSB|AGENTD)_[A-Z0-9_]*[A-Z0-9]\b`)
	inCode, inText := unique(name.FindAllString(string(source), -1)), unique(name.FindAllString(string(document), -1))
	for _, n := range inCode {
		if !slices.Contains(inText, n) {
			t.Errorf("docs/BOOT.md does not tell of %s", n)
		}
	}
	for _, n := range inText {
		if !slices.Contains(inCode, n) {
			t.Errorf("docs/BOOT.md tells of %s, which the code does not know", n)
		}
	}
	var phases []bootenv.Phase
	for _, found := range regexp.MustCompile("(?m)^\\| `([a-z ]+): ` \\|").FindAllStringSubmatch(string(document), -1) {
		phases = append(phases, bootenv.Phase(found[1]))
	}
	if want := bootenv.Phases(); !slices.Equal(phases, want) {
		t.Errorf("docs/BOOT.md has the phases %q, want %q", phases, want)
	}
}

func unique(words []string) []string {
	slices.Sort(words)
	return slices.Compact(words)
}

func TestFailure(t *testing.T) {
	t.Parallel()
	for _, p := range bootenv.Phases() {
		want := p.Wrap(errors.New("cause")).Error()
		if said, ok := bootenv.Failure(bootenv.ConsolePrefix + want); !ok || said != want {
			t.Errorf("%q: %q, %t", want, said, ok)
		}
	}
	for _, line := range []string{"", "agentd: left out: x", "init failed: x", "agentd: init failed"} {
		if said, ok := bootenv.Failure(line); ok {
			t.Errorf("%q was taken for %q", line, said)
		}
	}
	if err := bootenv.Init.Wrap(nil); err != nil {
		t.Error(err)
	}
}

// What no variable can say is refused by its field.
func TestEncodeRefuses(t *testing.T) {
	t.Parallel()
	for field, b := range map[string]*wire.Bootstrap{
		"default_cwd":           {DefaultCwd: new("/")},
		"default_env":           {DefaultEnv: []wire.EnvVar{{Key: "A"}}},
		"fresh":                 {Fresh: &wire.Fresh{}},
		"block_root.upper":      {BlockRoot: &wire.OCIErofs{Lower: "/dev/vda", Upper: &wire.UpperTmpfs{}}},
		"block_root.device":     {BlockRoot: &wire.DiskImage{Device: "/dev/a,b"}},
		"dir_mounts[1]":         {DirMounts: []wire.DirMount{{Tag: "a", GuestPath: "/a"}, {Tag: "b", GuestPath: "/a;b"}}},
		"file_mounts[0]":        {FileMounts: []wire.FileMount{{Tag: "a", Filename: "b:c", GuestPath: "/a"}}},
		"disk_mounts[0].fstype": {DiskMounts: []wire.DiskMount{{ID: "a", GuestPath: "/a", FSType: new("a,b")}}},
		"tmpfs_mounts[0].path":  {TmpfsMounts: []wire.TmpfsMount{{Path: "/a,ro"}}},
		"hostname":              {Hostname: new(" box")},
		"rlimits[0].resource":   {Rlimits: []wire.Rlimit{{Resource: "nofile=1;nproc"}}},
		"handoff_init.cwd":      {HandoffInit: &wire.HandoffInit{Cmd: "/i", Cwd: new("/")}},
		"handoff_init.cmd":      {HandoffInit: &wire.HandoffInit{}},
		"handoff_init.args[0]":  {HandoffInit: &wire.HandoffInit{Cmd: "/i", Args: []string{""}}},
		"handoff_init.env[0]":   {HandoffInit: &wire.HandoffInit{Cmd: "/i", Env: []wire.EnvVar{{Key: "A", Value: "\x1f"}}}},
	} {
		words, err := bootenv.Encode(b)
		if e, ok := errors.AsType[*bootenv.Error](err); !ok || e.Field != field || !strings.HasPrefix(e.Error(), field) {
			t.Errorf("%s: got %q, %v", field, words, err)
		}
	}
}
