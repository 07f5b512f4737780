package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// A row is one figure of the table.
type row struct {
	name, unit string
	samples    string                  // Name of the samples; "" means the row's own name.
	of         func([]float64) float64 // Of sorted samples.
}

var rows = []row{
	{"stdout", "MiB/s", "", median},
	{"lines", "MiB/s", "", median},
	{"lines alone", "MiB/s", "", median},
	{"stdin", "MiB/s", "", median},
	{"file write", "MiB/s", "", median},
	{"file read", "MiB/s", "", median},
	{"TCP out", "MiB/s", "", median},
	{"TCP in", "MiB/s", "", median},
	{"small files", "1/s", "", median},
	{"100 at once", "1/s", "", median},
	{"true p50", "ms", "true", median},
	{"true p99", "ms", "true", p99},
	{"stat p50", "us", "stat", median},
	{"stat p99", "us", "stat", p99},
	{"ping p50", "ms", "ping", median},
	{"ping p99", "ms", "ping", p99},
	{"ping beside a read p50", "ms", "ping beside a read", median},
	{"ping beside a read p99", "ms", "ping beside a read", p99},
	{"ping beside a write p50", "ms", "ping beside a write", median},
	{"ping beside a write p99", "ms", "ping beside a write", p99},
	{"beside unread input p50", "ms", "beside unread input", median},
	{"beside a flood p50", "ms", "beside a flood", median},
	{"beside 50 floods p50", "ms", "beside 50 floods", median},
	{"50 floods: least", "of mean", "", least},
	{"50 floods: most", "of mean", "", most},
	{"50 floods: together", "MiB/s", "", median},
	{"init_time_ns", "ms", "", median},
	{"ready", "ms", "", median},
	{"resident after boot", "MiB", "", most},
	{"peak", "MiB", "", most},
	{"resident at the end", "MiB", "", most},
	{"binary", "MiB", "", median},
}

func median(s []float64) float64 { return quantile(s, 0.5) }
func p99(s []float64) float64    { return quantile(s, 0.99) }
func least(s []float64) float64  { return s[0] }
func most(s []float64) float64   { return s[len(s)-1] }

// quantile returns a quantile of sorted samples; it interpolates between two.
func quantile(s []float64, q float64) float64 {
	at := q * float64(len(s)-1)
	low := int(at)
	if low+1 >= len(s) || math.IsInf(s[low+1], 1) && at-float64(low) < 0.5 {
		return s[low]
	}
	if math.IsInf(s[low+1], 1) {
		return s[low+1]
	}
	return s[low] + (at-float64(low))*(s[low+1]-s[low])
}

// results are all samples of a run.
type results struct {
	base     string                          // The agent that ratios refer to.
	samples  map[string]map[string][]float64 // By row and agent.
	failures []failure
	out, in  []float64 // The port's own limit.
}

// A failure is a measure in which an agent failed.
type failure struct {
	agent, measure string
	err            error
}

func newResults(base string) *results {
	return &results{base: base, samples: map[string]map[string][]float64{}}
}

func (r *results) add(name, agent string, values ...float64) {
	if r.samples[name] == nil {
		r.samples[name] = map[string][]float64{}
	}
	r.samples[name][agent] = append(r.samples[name][agent], values...)
}

// sorted returns the samples of a row in order.
func (r *results) sorted(w row, agent string) []float64 {
	name := w.samples
	if name == "" {
		name = w.name
	}
	return slices.Sorted(slices.Values(r.samples[name][agent]))
}

// value returns the figure of the named row; false if there is none.
func (r *results) value(name, agent string) (float64, bool) {
	for _, w := range rows {
		if w.name == name {
			return r.figureOf(w, agent)
		}
	}
	return 0, false
}

func (r *results) figureOf(w row, agent string) (float64, bool) {
	s := r.sorted(w, agent)
	if len(s) == 0 {
		return 0, false
	}
	return w.of(s), true
}

// print writes the table: each figure, the range of its samples, and its ratio to the
// base agent.
func (r *results) print(w *strings.Builder, agents []*opponent) {
	fmt.Fprintf(w, "\n%-24s %-8s", "", "unit")
	for _, a := range agents {
		fmt.Fprintf(w, " %-30s", a.name)
	}
	fmt.Fprintln(w)
	for _, line := range rows {
		cells := make([]string, len(agents))
		for i, a := range agents {
			cells[i] = fmt.Sprintf("%-30s", r.cell(line, a.name))
		}
		fmt.Fprintln(w, strings.TrimRight(fmt.Sprintf("%-24s %-8s %s", line.name, line.unit, strings.Join(cells, " ")), " "))
	}
	r.printCPU(w, agents)
	if len(r.out) > 0 {
		fmt.Fprintf(w, "%-24s %-8s out %s, in %s\n", "the port itself", "MiB/s", spread(r.out), spread(r.in))
	}
	for _, f := range r.failures {
		fmt.Fprintf(w, "%s could not %s: %v\n", f.agent, f.measure, f.err)
	}
}

// printCPU writes the host CPU time of each measure. It matters less to users, but
// other work on the host changes it little.
func (r *results) printCPU(w *strings.Builder, agents []*opponent) {
	for _, what := range measures {
		line := row{"cpu: " + what.name, "ms", "", median}
		if len(r.samples[line.name]) == 0 {
			continue
		}
		fmt.Fprintf(w, "%-24s %-8s", line.name, line.unit)
		for _, a := range agents {
			fmt.Fprintf(w, " %-30s", r.cell(line, a.name))
		}
		fmt.Fprintln(w)
	}
}

func (r *results) cell(w row, agent string) string {
	s := r.sorted(w, agent)
	if len(s) == 0 {
		return "–"
	}
	v := w.of(s)
	text := number(v)
	if len(s) > 1 {
		text += fmt.Sprintf(" (%s–%s)", number(s[0]), number(s[len(s)-1]))
	}
	if base, ok := r.figureOf(w, r.base); ok && agent != r.base && base > 0 && !math.IsInf(base, 0) && !math.IsInf(v, 0) {
		text += fmt.Sprintf(" %.2fx", v/base)
	}
	return text
}

func spread(samples []float64) string {
	s := slices.Sorted(slices.Values(samples))
	return fmt.Sprintf("%s (%s–%s)", number(median(s)), number(s[0]), number(s[len(s)-1]))
}

// number formats a value with about three digits.
func number(v float64) string {
	switch {
	case math.IsInf(v, 1):
		return "never"
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}
