package plan

import (
	"errors"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/agentd-go/agentd/wire"
)

// checkWhole checks what holds for every plan, or that there is none.
func checkWhole(t *testing.T, p *Plan, err error) {
	t.Helper()
	var e *Error
	if err != nil {
		if p != nil || !errors.As(err, &e) || e.Field == "" || e.Rule == "" {
			t.Fatalf("plan %v, error %#v", p, err)
		}
		return
	}
	if got, want := strings.Count(p.String(), "\n"), len(p.Steps)+2; got != want {
		t.Fatalf("%d lines, want %d:\n%s", got, want, p)
	}
	for _, target := range targets(p) {
		if checkTarget(target) != "" || path.Clean(target) != target {
			t.Fatalf("target %q: %s", target, checkTarget(target))
		}
	}
	for _, s := range p.Steps {
		if h, ok := s.(HostsFile); ok && strings.Count(h.Content, "\n") > 8 {
			t.Fatalf("more lines than there should be: %q", h.Content)
		}
	}
}

// FuzzEnvironment takes an environment as lines of NAME=value.
func FuzzEnvironment(f *testing.F) {
	for _, env := range environments {
		f.Add(strings.Join(env, "\n"))
	}
	f.Fuzz(func(t *testing.T, text string) {
		environ := strings.Split(text, "\n")
		p, err := FromEnvironment(environ)
		checkWhole(t, p, err)
		again, _ := FromEnvironment(environ)
		if p != nil && p.String() != again.String() {
			t.Fatal("the same variables make another plan")
		}
	})
}

// FuzzBootstrap takes lists of mounts as lines, one kind in each argument.
func FuzzBootstrap(f *testing.F) {
	f.Add("/a\n/a/b", "/a/b/c", "/tmp", "host", "PATH=/bin\nA=1")
	f.Add("/x", "/x/../y", "/x/", "a\nb", "=")
	f.Fuzz(func(t *testing.T, dirs, files, tmp, name, vars string) {
		b := &wire.Bootstrap{Hostname: &name, HostAlias: &name, User: &name}
		for d := range strings.SplitSeq(dirs, "\n") {
			b.DirMounts = append(b.DirMounts, wire.DirMount{Tag: name, GuestPath: d})
		}
		for d := range strings.SplitSeq(files, "\n") {
			b.FileMounts = append(b.FileMounts, wire.FileMount{Tag: "t", Filename: name, GuestPath: d})
		}
		for d := range strings.SplitSeq(tmp, "\n") {
			b.TmpfsMounts = append(b.TmpfsMounts, wire.TmpfsMount{Path: d})
		}
		for v := range strings.SplitSeq(vars, "\n") {
			k, value, _ := strings.Cut(v, "=")
			b.DefaultEnv = append(b.DefaultEnv, wire.EnvVar{Key: k, Value: value})
		}
		p, err := FromBootstrap(b, nil)
		checkWhole(t, p, err)
		if p != nil {
			checkParentsFirst(t, targets(p))
		}
	})
}

// checkParentsFirst checks that targets are unique and none comes before one
// that it lies in.
func checkParentsFirst(t *testing.T, targets []string) {
	t.Helper()
	for i, target := range targets {
		if slices.ContainsFunc(targets[i+1:], func(later string) bool { return isBelow(target, later) }) {
			t.Fatalf("%q hides or repeats an earlier target: %q", target, targets)
		}
	}
}

// FuzzResolveUser looks for a panic, a partial answer and a user made of nothing.
func FuzzResolveUser(f *testing.F) {
	for _, spec := range []string{"", "root", "alice:devs", "1000:10", "4294967295", ":", "a:", "last"} {
		f.Add(spec, []byte(passwdFile), []byte(groupFile))
	}
	f.Add("a", []byte("a:::::::"), []byte(":::,,,"))
	f.Fuzz(func(t *testing.T, spec string, passwd, group []byte) {
		c, err := ResolveUser(spec, passwd, group)
		switch {
		case err != nil:
			if c.Switch || c.Groups != nil || c.Name != "" {
				t.Fatalf("%+v beside %v", c, err)
			}
		case c.Switch && c.Name == "" && c.Groups != nil:
			t.Fatalf("groups of a user without an entry: %+v", c)
		case c.Switch && c.Name != "" && (len(c.Groups) == 0 || c.Groups[0] != c.GID):
			t.Fatalf("the group is not the first: %+v", c)
		case strings.ContainsAny(c.Name+c.Home, ":\n"):
			t.Fatalf("more than a field: %+v", c)
		}
	})
}
