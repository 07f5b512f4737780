package main

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/agentd-go/agentd/internal/machines"
)

// psFilters are the values of --filter by key. A machine must have every label, and one
// of the values of each other key.
type psFilters map[string][]string

// healthWord is the key for the health status, and noHealth the value for a machine
// without a check.
const (
	healthWord = "health"
	noHealth   = "none"
)

var healths = []machines.HealthStatus{machines.HealthStarting, machines.Healthy, machines.Unhealthy, noHealth}

// exitedWord is the name in container tools for a machine that has ended.
const exitedWord = "exited"

// parseFilters checks KEY=VALUE.
func parseFilters(texts []string) (psFilters, error) {
	f := psFilters{}
	for _, text := range texts {
		key, value, ok := strings.Cut(text, "=")
		var err error
		switch {
		case !ok || value == "":
			err = fmt.Errorf("--filter %q: want KEY=VALUE", text)
		case key == "name":
			if _, bad := regexp.Compile(value); bad != nil {
				err = fmt.Errorf("--filter %q: %w", text, bad)
			}
		case key == "status" && value != exitedWord && !slices.Contains(phases, machines.Phase(value)):
			err = fmt.Errorf("--filter %q: want one of %v or %s", text, phases, exitedWord)
		case key == exitedWord:
			if _, bad := strconv.Atoi(value); bad != nil {
				err = fmt.Errorf("--filter %q: want a command's status", text)
			}
		case key == healthWord && !slices.Contains(healths, machines.HealthStatus(value)):
			err = fmt.Errorf("--filter %q: want one of %v", text, healths)
		case key != "status" && key != "label" && key != healthWord:
			err = fmt.Errorf("--filter %q: unknown key %q; want name=, status=, label=, health= or exited=", text, key)
		}
		if err != nil {
			return nil, err
		}
		f[key] = append(f[key], value)
	}
	return f, nil
}

// phases are all phases, in the order of a life.
var phases = []machines.Phase{
	machines.Created, machines.Starting, machines.Running, machines.Paused, machines.Restarting, machines.Stopping, machines.Stopped, machines.Failed, machines.Dead,
}

// all reports whether the filters select machines that have ended.
func (f psFilters) all() bool { return len(f["status"])+len(f[exitedWord]) > 0 }

func (f psFilters) match(l machineLine) bool {
	return f.any("name", func(want string) bool { return regexp.MustCompile(want).MatchString(l.Name) }) &&
		f.any("status", func(want string) bool {
			return string(l.Phase) == want || want == exitedWord && (l.Phase == machines.Stopped || l.Phase == machines.Failed)
		}) &&
		f.any(healthWord, func(want string) bool { return cmp.Or(string(l.Health), noHealth) == want }) &&
		f.any(exitedWord, func(want string) bool { return l.Exit != nil && strconv.Itoa(*l.Exit) == want }) &&
		!slices.ContainsFunc(f["label"], func(want string) bool { return !hasLabel(l.Labels, want) })
}

// any reports whether one value of a key fits, or the key was not given.
func (f psFilters) any(key string, right func(want string) bool) bool {
	return len(f[key]) == 0 || slices.ContainsFunc(f[key], right)
}

// hasLabel reports whether there is the label KEY, or KEY=VALUE.
func hasLabel(labels map[string]string, want string) bool {
	key, value, valued := strings.Cut(want, "=")
	got, ok := labels[key]
	return ok && (!valued || got == value)
}

// joinLabels is all of them in one text, as a template has them.
func joinLabels(labels map[string]string) string {
	var all []string
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		all = append(all, key+"="+labels[key])
	}
	return strings.Join(all, ",")
}
