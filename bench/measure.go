package main

import (
	"context"
	"time"
)

// measureDeadline bounds one measure on one machine; the slowest agent needs a fifth of
// it.
const measureDeadline = 90 * time.Second

// A plan holds the sizes of the measures.
type plan struct {
	size   int64 // Bytes of a stream.
	poured int64 // Bytes sent to a host that does not read.
	small  int   // Files.
	rounds int
}

// A task is one measure on one machine.
type task struct {
	context.Context //nolint:containedctx // A task is a call of many arguments.
	*machine
	plan
	*results
}

// A measure is work that all machines do, one after the other.
type measure struct {
	name  string
	brief bool // Also in the short form.
	do    func(t task) error
}

func (t task) add(row string, values ...float64) { t.results.add(row, t.agent.name, values...) }

// stream is a measure of one speed.
func stream(name string, brief bool, f func(context.Context, *machine, int64) (float64, error)) measure {
	return measure{name, brief, func(t task) error {
		v, err := f(t, t.machine, t.size)
		if err == nil {
			t.add(name, v)
		}
		return err
	}}
}

// measures are in order: those that may kill an agent come last.
var measures = []measure{
	{"resident after boot", true, func(t task) error { return t.memoryRow("resident after boot", "VmRSS") }},
	stream("stdout", true, stdout),
	stream("lines alone", false, linesAlone),
	stream("lines", false, lines),
	stream("stdin", true, stdin),
	stream("file write", true, fileWrite),
	stream("file read", true, fileRead),
	stream("TCP out", true, tcpOut),
	stream("TCP in", true, tcpIn),
	{"true", true, func(t task) error {
		all, err := once(t, t.machine, 20)
		if err == nil {
			t.add("true", all...)
		}
		return err
	}},
	{"100 at once", true, func(t task) error {
		v, err := burst(t, t.machine)
		if err == nil {
			t.add("100 at once", v)
		}
		return err
	}},
	{"stat", false, func(t task) error {
		all, err := stats(t, t.machine, 100)
		t.add("stat", all...)
		return err
	}},
	{"small files", false, func(t task) error {
		v, err := smallFiles(t, t.machine, t.small)
		if err == nil {
			t.add("small files", v)
		}
		return err
	}},
	{"ping", false, pingsBeside},
	{"beside a flood", true, func(t task) error {
		all, err := besideFlood(t, t.machine, 10)
		if err == nil {
			t.add("beside a flood", all...)
		}
		return err
	}},
	{"deaf host", true, func(t task) error {
		if err := t.forgetPeak(t); err != nil {
			return err
		}
		if err := deafHost(t, t.machine, t.poured); err != nil {
			return err
		}
		return t.memoryRow("peak", "VmHWM")
	}},
	{"beside 50 floods", true, shares},
	{"beside unread input", true, func(t task) error {
		all, err := besideUnread(t, t.machine, 5)
		if err == nil {
			t.add("beside unread input", all...)
		}
		return err
	}},
	{"resident at the end", true, func(t task) error {
		v, err := t.settled(t)
		if err == nil {
			t.add("resident at the end", v)
		}
		return err
	}},
}

func (t task) memoryRow(row, key string) error {
	v, err := t.memory(t, key)
	if err == nil {
		t.add(row, v)
	}
	return err
}

// pingsBeside needs the file of "file write".
func pingsBeside(t task) error {
	if t.agent.generation < pingSince {
		return nil
	}
	read := func() error { _, err := fileRead(t, t.machine, t.size); return err }
	write := func() error { _, err := fileWrite(t, t.machine, t.size); return err }
	for _, beside := range []struct {
		row  string
		work func() error
	}{
		{"ping", func() error { return pause(t, time.Second) }},
		{"ping beside a read", read},
		{"ping beside a write", write},
	} {
		all, err := t.pinged(t, beside.work)
		if err != nil {
			return err
		}
		t.add(beside.row, all...)
	}
	return nil
}

func shares(t task) error {
	s, err := besideFloods(t, t.machine, 5)
	t.add("beside 50 floods", s.beside...)
	if err != nil {
		return err
	}
	t.add("50 floods: least", s.least)
	t.add("50 floods: most", s.most)
	t.add("50 floods: together", s.total)
	return nil
}
