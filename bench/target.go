package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// A target is a bound for one figure of ours.
type target struct {
	row     string
	against string  // The row to which it is a ratio; "" means an absolute bound.
	of      string  // The agent of that row, or portOut.
	atLeast bool    // Otherwise at most.
	bound   float64 //
	hard    bool    // Noise cannot explain a miss: the short form fails on it.
}

// portOut is the port's own speed towards the host.
const portOut = "the port"

var targets = []target{
	{"stdout", "stdout", baseName, true, 3.5, false},
	{"stdout", portOut, portOut, true, 0.4, false},
	{"file read", "file read", baseName, true, 3.5, false},
	{"file read", "file read", "0.7.2", true, 1.3, false},
	{"file write", "file write", baseName, true, 1.2, false},
	{"TCP out", "TCP out", baseName, true, 3, false},
	{"stdin", "stdin", baseName, true, 3, false},
	{"lines", "lines", baseName, true, 1.4, false},
	{"true p50", "true p50", baseName, false, 1, false},
	{"100 at once", "100 at once", baseName, true, 1.2, false},
	{"stat p50", "stat p50", baseName, false, 1, false},
	{"init_time_ns", "init_time_ns", baseName, false, 1, false},
	{"ready", "ready", baseName, false, 1, false},
	{"peak", "", "", false, 16, true},
	{"resident at the end", "", "", false, 10, true},
	{"resident after boot", "", "", false, 6, false}, // Boots differ: make size judges the least of three.
	{"binary", "", "", false, 4.9, true},
	{"beside unread input p50", "true p50", ourName, false, 2, false},
	{"beside a flood p50", "true p50", ourName, false, 2, false},
	{"beside 50 floods p50", "true p50", ourName, false, 2, false},
	{"50 floods: least", "", "", true, 0.5, false},
	{"50 floods: most", "", "", false, 2, false},
	{"ping beside a read p99", "", "", false, 60, false},
	{"ping beside a write p99", "", "", false, 60, false},
}

// figure returns the value that the target bounds; false if something was not measured.
func (r *results) figure(t target) (float64, bool) {
	v, ok := r.value(t.row, ourName)
	if t.against == "" || !ok {
		return v, ok
	}
	base, ok := r.value(t.against, t.of)
	if t.of == portOut && len(r.out) > 0 {
		base, ok = median(slices.Sorted(slices.Values(r.out))), true
	}
	return v / base, ok && base > 0
}

// of returns the agent to which the target is a ratio.
func (r *results) of(t target) string {
	if t.of == baseName {
		return r.base
	}
	return t.of
}

func (t target) met(v float64) bool {
	if t.atLeast {
		return v >= t.bound
	}
	return v <= t.bound
}

// String describes the target without its figure.
func (t target) String() string {
	sign, unit := "<=", ""
	if t.atLeast {
		sign = ">="
	}
	if t.against != "" {
		unit = " x " + t.of
		if t.against != t.row && t.of != portOut {
			unit += "'s " + t.against
		}
	} else {
		for _, w := range rows {
			if w.name == t.row {
				unit = " " + w.unit
			}
		}
	}
	return fmt.Sprintf("%s %s %s%s", t.row, sign, number(t.bound), unit)
}

// judge prints a line for each target. It returns the missed targets that noise cannot
// explain: commands without an answer, lost bytes, unbounded memory.
func (r *results) judge(w *strings.Builder) (broken []string) {
	for _, t := range targets {
		t.of = r.of(t)
		v, ok := r.figure(t)
		verdict := "met"
		switch {
		case !ok:
			verdict = "not measured"
		case !t.met(v):
			verdict = "NOT MET"
		}
		line := fmt.Sprintf("%-52s %s", t, verdict)
		if ok {
			line += ": " + number(v)
		}
		fmt.Fprintln(w, line)
		if ok && !t.met(v) && (t.hard || math.IsInf(v, 1)) {
			broken = append(broken, line)
		}
	}
	for _, f := range r.failures {
		if f.agent == ourName {
			broken = append(broken, fmt.Sprintf("ours could not %s: %v", f.measure, f.err))
		}
	}
	return broken
}
