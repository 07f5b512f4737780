package plan

import (
	"slices"
	"strings"

	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/bootenv"
)

// DefaultPath is the search path of a machine whose image names none.
const DefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// ScriptsPath puts [ScriptsDir] before a search path that does not contain it.
func ScriptsPath(p string) string {
	if slices.Contains(strings.Split(p, ":"), ScriptsDir) {
		return p
	}
	return prefixed(p)
}

// prefixed puts [ScriptsDir] before a search path. For an empty path it returns
// ScriptsDir alone, because an empty component would mean the working directory.
func prefixed(p string) string {
	if p == "" {
		return ScriptsDir
	}
	return ScriptsDir + ":" + p
}

// env is an environment. Each key is in it once, where it was first added.
type env struct {
	list []string       // KEY=VALUE
	at   map[string]int // key to its place in list
}

func newEnv(list []string) *env {
	e := &env{at: make(map[string]int, len(list))}
	for _, entry := range list {
		e.add(entry)
	}
	return e
}

// add sets one KEY=VALUE. A key that is there keeps its place. An entry without '=' is
// dropped, because it is no variable.
func (e *env) add(entry string) {
	key, value, ok := strings.Cut(entry, "=")
	if ok {
		e.set(key, value)
	}
}

func (e *env) set(key, value string) {
	entry := key + "=" + value
	if i, ok := e.at[key]; ok {
		e.list[i] = entry
		return
	}
	e.at[key] = len(e.list)
	e.list = append(e.list, entry)
}

// get returns the value of key, "" if it is absent.
func (e *env) get(key string) string {
	i, ok := e.at[key]
	if !ok {
		return ""
	}
	return e.list[i][len(key)+1:]
}

// Overlay returns base with the variables of over set in it. Those that base has keep
// their places, and the others follow. Later entries win. Entries without '=' are
// dropped.
func Overlay(base, over []string) []string {
	e := newEnv(base)
	for _, entry := range over {
		e.add(entry)
	}
	return e.list
}

// inherited returns the part of PID 1's environment that commands may see. It leaves
// out the machine's configuration and the monitor's own variables.
func inherited(environ []string) []string {
	hidden := make(map[string]bool)
	for _, v := range variables() {
		hidden[v.name] = true
	}
	e := newEnv(nil)
	for _, entry := range environ {
		key, _, _ := strings.Cut(entry, "=")
		if key == "" || hidden[key] || strings.HasPrefix(key, bootenv.OwnPrefix) || strings.HasPrefix(key, "KRUN_") {
			continue
		}
		e.add(entry)
	}
	return e.list
}

// onceSince is the first generation in which the scripts directory is once in a PATH.
// Earlier generations put it before every PATH, even before one that contains it.
const onceSince wire.Generation = 7

// CommandEnv returns the environment of one command: base ([Commands].Env and the
// variables that the boot added), and then the entries of its request. Later entries
// win.
//
//   - [ScriptsDir] is put before the first PATH= of the request. Later ones are not
//     changed. If the request has none, it is put before the inherited PATH or
//     [DefaultPath]. From generation 7 on, a PATH that contains it is not changed.
//   - HOME is home unless the request has a HOME=. If home is empty, because the user
//     has no entry in the password file, the inherited HOME stays.
//
// A command on a terminal gets the inherited order, with new variables at the end. Any
// other command gets its variables sorted by key. The arguments are not changed.
func CommandEnv(g wire.Generation, base, request []string, home string, tty bool) []string {
	prefix := ScriptsPath
	if g < onceSince {
		prefix = prefixed
	}
	e := newEnv(base)
	if _, ok := e.at["PATH"]; !ok && !hasEntry(request, "PATH=") {
		e.set("PATH", DefaultPath)
	}
	if !hasEntry(request, "PATH=") {
		e.set("PATH", prefix(e.get("PATH")))
	}
	e.overlayRequest(request, prefix)
	if home != "" && !hasEntry(request, "HOME=") {
		e.set("HOME", home)
	}
	if !tty {
		slices.SortFunc(e.list, compareKeys)
	}
	return e.list
}

// overlayRequest adds the entries of a request, the first PATH prefixed.
func (e *env) overlayRequest(request []string, prefix func(string) string) {
	first := true
	for _, entry := range request {
		if p, ok := strings.CutPrefix(entry, "PATH="); ok && first {
			first = false
			e.set("PATH", prefix(p))
			continue
		}
		e.add(entry)
	}
}

func hasEntry(list []string, prefix string) bool {
	return slices.ContainsFunc(list, func(e string) bool { return strings.HasPrefix(e, prefix) })
}

func compareKeys(a, b string) int {
	ka, _, _ := strings.Cut(a, "=")
	kb, _, _ := strings.Cut(b, "=")
	return strings.Compare(ka, kb)
}
