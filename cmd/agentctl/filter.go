package main

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/agentd-go/agentd/internal/machines"
)

// filterBy leaves the values that have one of the wanted values of each key, and every
// label. filter makes the test for a KEY=VALUE.
func filterBy[T any](all []T, texts []string, filter func(key, value string) (func(T) bool, error)) ([]T, error) {
	keys := map[string][]func(T) bool{}
	for n, text := range texts {
		key, value, _ := strings.Cut(text, "=")
		match, err := filter(key, value)
		if value == "" {
			err = misuse(errors.New("want KEY=VALUE"))
		}
		if err != nil {
			return nil, fmt.Errorf("--filter %q: %w", text, err)
		}
		if key == "label" {
			key += strconv.Itoa(n) // All of them.
		}
		keys[key] = append(keys[key], match)
	}
	return slices.DeleteFunc(all, func(v T) bool {
		for _, values := range keys {
			if !slices.ContainsFunc(values, func(match func(T) bool) bool { return match(v) }) {
				return true
			}
		}
		return false
	}), nil
}

// danglingFilter tests for things that nothing names or uses.
func danglingFilter[T any](value string, dangles func(T) bool) (func(T) bool, error) {
	want, err := strconv.ParseBool(value)
	if err != nil {
		return nil, misuse(errors.New("want true or false"))
	}
	return func(v T) bool { return dangles(v) == want }, nil
}

// healthWord is the key for the health status, and noHealth the value for a machine
// without a check.
const (
	healthWord = "health"
	noHealth   = "none"
)

var healths = []machines.HealthStatus{machines.HealthStarting, machines.Healthy, machines.Unhealthy, noHealth}

// exitedWord is the name in container tools for a machine that has ended.
const exitedWord = "exited"

func machineFilter(key, value string) (func(machineLine) bool, error) {
	switch key {
	case "name":
		name, err := regexp.Compile(value)
		return func(l machineLine) bool { return name.MatchString(l.Name) }, misuse(err)
	case "status":
		if value != exitedWord && !slices.Contains(phases, machines.Phase(value)) {
			return nil, misuse(fmt.Errorf("want one of %v or %s", phases, exitedWord))
		}
		return func(l machineLine) bool {
			return string(l.Phase) == value || value == exitedWord && (l.Phase == machines.Stopped || l.Phase == machines.Failed)
		}, nil
	case exitedWord:
		if _, err := strconv.Atoi(value); err != nil {
			return nil, misuse(errors.New("want a command's status"))
		}
		return func(l machineLine) bool { return l.Exit != nil && strconv.Itoa(*l.Exit) == value }, nil
	case healthWord:
		if !slices.Contains(healths, machines.HealthStatus(value)) {
			return nil, misuse(fmt.Errorf("want one of %v", healths))
		}
		return func(l machineLine) bool { return cmp.Or(string(l.Health), noHealth) == value }, nil
	case "label":
		return func(l machineLine) bool { return hasLabel(l.Labels, value) }, nil
	}
	return nil, misuse(fmt.Errorf("unknown key %q; want name=, status=, label=, health= or exited=", key))
}

// phases are all phases, in the order of a life.
var phases = []machines.Phase{
	machines.Created, machines.Starting, machines.Running, machines.Paused, machines.Restarting, machines.Stopping, machines.Stopped, machines.Failed, machines.Dead,
}

// ofEnded reports whether a filter selects machines that have ended.
func ofEnded(filter string) bool {
	return strings.HasPrefix(filter, "status=") || strings.HasPrefix(filter, exitedWord+"=")
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
