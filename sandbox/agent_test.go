package sandbox

import (
	"runtime/debug"
	"strings"
	"testing"
)

// The origin of a program's copy of this module determines how to build its agent.
func TestOriginOf(t *testing.T) {
	ours := func(version string) debug.Module { return debug.Module{Path: modulePath, Version: version} }
	importer := debug.Module{Path: "example.com/theirs", Version: "v1.0.0"}
	dep := func(m debug.Module) []*debug.Module {
		return []*debug.Module{{Path: "example.com/other", Version: "v2.0.0"}, &m}
	}
	replaced := func(by debug.Module) debug.Module { m := ours("v0.1.0"); m.Replace = &by; return m }
	for name, tt := range map[string]struct {
		info debug.BuildInfo
		want origin
		err  string
	}{
		"installed":            {debug.BuildInfo{Main: ours("v0.1.0")}, origin{version: "v0.1.0"}, ""},
		"imported":             {debug.BuildInfo{Main: importer, Deps: dep(ours("v0.2.0"))}, origin{version: "v0.2.0"}, ""},
		"replaced by a dir":    {debug.BuildInfo{Main: importer, Deps: dep(replaced(debug.Module{Path: "/src/agentd"}))}, origin{dir: "/src/agentd"}, ""},
		"replaced, relative":   {debug.BuildInfo{Main: importer, Deps: dep(replaced(debug.Module{Path: "../agentd"}))}, origin{}, "no published version"},
		"replaced by a fork":   {debug.BuildInfo{Main: importer, Deps: dep(replaced(debug.Module{Path: "example.com/fork", Version: "v1.0.0"}))}, origin{}, "example.com/fork v1.0.0"},
		"checkout":             {debug.BuildInfo{Main: ours("(devel)")}, origin{}, "(devel)"},
		"checkout, unsaved":    {debug.BuildInfo{Main: ours("v0.0.0-20261130000000-0123456789ab+dirty")}, origin{}, "+dirty"},
		"a program without us": {debug.BuildInfo{Main: importer}, origin{}, "does not say"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := originOf(&tt.info)
			if got != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("got %+v, %v, want %+v, %q", got, err, tt.want, tt.err)
			}
		})
	}
}
