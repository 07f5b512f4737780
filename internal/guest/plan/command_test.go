package plan

import (
	"slices"
	"strings"
	"testing"

	"github.com/agentd-go/agentd/wire"
)

func TestScriptsPath(t *testing.T) {
	for in, want := range map[string]string{
		"":                            "/.msb/scripts",
		"/bin":                        "/.msb/scripts:/bin",
		"/.msb/scripts":               "/.msb/scripts",
		"/bin:/.msb/scripts":          "/bin:/.msb/scripts",
		"/.msb/scripts/:/bin":         "/.msb/scripts:/.msb/scripts/:/bin",
		"/x/.msb/scripts:/bin":        "/.msb/scripts:/x/.msb/scripts:/bin",
		"/usr/bin:/.msb/scripts:/bin": "/usr/bin:/.msb/scripts:/bin",
	} {
		if got := ScriptsPath(in); got != want {
			t.Errorf("ScriptsPath(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestCommandEnv(t *testing.T) {
	const scripts = "/.msb/scripts:"
	base := []string{"HOME=/", "TERM=linux", "PATH=/.msb/scripts:/bin"}
	type list = []string
	for _, c := range []struct {
		name          string
		g             wire.Generation
		base, request []string
		home          string
		tty           bool
		want          []string
	}{
		{"sorted by key", 7, base, list{"B=2", "A-B=3", "A=1"}, "", false, list{"A=1", "A-B=3", "B=2", "HOME=/", "PATH=/.msb/scripts:/bin", "TERM=linux"}},
		{"in order for a terminal", 7, base, list{"B=2", "TERM=xterm", "A=1"}, "/root", true, list{"HOME=/root", "TERM=xterm", "PATH=/.msb/scripts:/bin", "B=2", "A=1"}},
		{"last duplicate wins", 7, nil, list{"PATH=", "A=1", "A=", "A=x=y"}, "", true, list{"PATH=/.msb/scripts", "A=x=y"}},
		{"entries without = are dropped", 7, list{"junk"}, list{"PATH=/b", "x", "", "PATH"}, "", true, list{"PATH=" + scripts + "/b"}},
		{"inherited PATH is doubled in 4", 4, list{"PATH=/.msb/scripts:/bin"}, nil, "", true, list{"PATH=" + scripts + scripts + "/bin"}},
		{"inherited PATH is kept in 7", 7, list{"PATH=/.msb/scripts:/bin"}, nil, "", true, list{"PATH=/.msb/scripts:/bin"}},
		{"requested PATH is doubled in 4", 4, base[:1], list{"PATH=/b:/.msb/scripts"}, "", true, list{"HOME=/", "PATH=" + scripts + "/b:/.msb/scripts"}},
		{"requested PATH is kept in 7", 7, base[:1], list{"PATH=/b:/.msb/scripts"}, "", true, list{"HOME=/", "PATH=/b:/.msb/scripts"}},
		{"newer generations are as 7", 9, nil, list{"PATH=/.msb/scripts"}, "", true, list{"PATH=/.msb/scripts"}},
		{"no PATH at all", 7, nil, nil, "", true, list{"PATH=" + scripts + DefaultPath}},
		{"no PATH at all in 4", 4, nil, nil, "", true, list{"PATH=" + scripts + DefaultPath}},
		{"empty inherited PATH", 7, list{"PATH="}, nil, "", true, list{"PATH=/.msb/scripts"}},
		{"empty requested PATH", 4, base[2:], list{"PATH="}, "", true, list{"PATH=/.msb/scripts"}},
		{"later PATH stands as it is", 7, base[2:], list{"PATH=/a", "PATH=/b"}, "", true, list{"PATH=/b"}},
		{"later empty PATH too", 4, base[2:], list{"PATH=/a", "PATH="}, "", true, list{"PATH="}},
		{"requested HOME stays", 7, base[:1], list{"PATH=/b", "HOME=/h"}, "/root", true, list{"HOME=/h", "PATH=" + scripts + "/b"}},
		{"empty requested HOME stays", 7, base[:1], list{"PATH=/b", "HOME="}, "/root", true, list{"HOME=", "PATH=" + scripts + "/b"}},
		{"HOME without = is no HOME", 7, base[:1], list{"PATH=/b", "HOME"}, "/root", true, list{"HOME=/root", "PATH=" + scripts + "/b"}},
		{"no home keeps the inherited one", 7, base[:1], list{"PATH=/b"}, "", true, list{"HOME=/", "PATH=" + scripts + "/b"}},
		{"home without an inherited one", 7, nil, list{"PATH=/b"}, "/root", true, list{"PATH=" + scripts + "/b", "HOME=/root"}},
		{"empty key", 7, nil, list{"PATH=/b", "=x"}, "", false, list{"=x", "PATH=" + scripts + "/b"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := slices.Clone(slices.Concat(c.base, c.request))
			got := CommandEnv(c.g, c.base, c.request, c.home, c.tty)
			if !slices.Equal(got, c.want) {
				t.Errorf("\n got %q\nwant %q", got, c.want)
			}
			if !slices.Equal(before, slices.Concat(c.base, c.request)) {
				t.Error("the arguments were changed")
			}
		})
	}
}

func TestOverlay(t *testing.T) {
	got := Overlay([]string{"A=1", "B=2", "x"}, []string{"C=3", "A=4", "y", "C=5"})
	if want := "A=4 B=2 C=5"; strings.Join(got, " ") != want {
		t.Errorf("got %q, want %s", got, want)
	}
}
