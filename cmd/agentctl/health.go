package main

import (
	"fmt"
	"time"

	"github.com/spf13/pflag"

	"github.com/agentd-go/agentd/internal/machines"
	"github.com/agentd-go/agentd/sandbox"
)

// healthFlags are the flags of the health check; they override the image's check.
type healthFlags struct {
	none          bool
	command       string
	interval      time.Duration
	timeout       time.Duration
	startPeriod   time.Duration
	startInterval time.Duration
	retries       int
	flags         *pflag.FlagSet
}

func (f *healthFlags) register(flags *pflag.FlagSet) {
	f.flags = flags
	flags.BoolVar(&f.none, "no-healthcheck", false, "do not run the image's health check")
	flags.StringVar(&f.command, "health-cmd", "", "a `line` for the machine's shell that says by its status whether the machine is well; ps and inspect show it")
	flags.DurationVar(&f.interval, "health-interval", 0, "time from one check to the next (default: the image's, or 30s)")
	flags.DurationVar(&f.timeout, "health-timeout", 0, "time after which a check is killed and counts as failed (default: the image's, or 30s)")
	flags.IntVar(&f.retries, "health-retries", 0, "consecutive `failures` that make it unhealthy (default: the image's, or 3)")
	flags.DurationVar(&f.startPeriod, "health-start-period", 0, "time after its start in which failures do not count (default: the image's, or none)")
	flags.DurationVar(&f.startInterval, "health-start-interval", 0, "time from one check to the next during the start period (default: the image's, or 5s)")
}

// healthNames are the flags that change a check.
var healthNames = []string{"health-cmd", "health-interval", "health-timeout", "health-retries", "health-start-period", "health-start-interval"}

// given returns one of the given flags, or "".
func (f *healthFlags) given() string {
	for _, name := range healthNames {
		if f.flags.Changed(name) {
			return name
		}
	}
	return ""
}

// check refuses values out of range, before anything is made.
func (f *healthFlags) check() error {
	return machines.CheckHealth(f.over(&sandbox.Healthcheck{Test: []string{"CMD", "true"}}))
}

// over returns the image's check with the values of the flags; nil means none.
func (f *healthFlags) over(image *sandbox.Healthcheck) *sandbox.Healthcheck {
	if f.none {
		return nil
	}
	var h sandbox.Healthcheck
	if image != nil && image.Test[0] != "NONE" {
		h = *image
	}
	if f.command != "" {
		h.Test = []string{"CMD-SHELL", f.command}
	}
	for name, pair := range map[string][2]*time.Duration{
		"health-interval": {&h.Interval, &f.interval}, "health-timeout": {&h.Timeout, &f.timeout},
		"health-start-period": {&h.StartPeriod, &f.startPeriod}, "health-start-interval": {&h.StartInterval, &f.startInterval},
	} {
		if f.flags.Changed(name) {
			*pair[0] = *pair[1]
		}
	}
	if f.flags.Changed("health-retries") {
		h.Retries = f.retries
	}
	if len(h.Test) == 0 {
		return nil
	}
	return &h
}

// apply writes the check into the record. An image's check, which may be nil, may also
// be invalid: then it is left out, and the note says so.
func (f *healthFlags) apply(r *machines.Record, image *sandbox.Healthcheck) (note string, err error) {
	if err := machines.CheckHealth(image); err != nil && image.Test[0] != "NONE" && !f.none && f.command == "" {
		image, note = nil, fmt.Sprintf("the image's %v; it is not run", err)
	}
	if r.Health = f.over(image); r.Health == nil && f.given() != "" {
		return note, fmt.Errorf("--%s: there is no health check; --health-cmd names one", f.given())
	}
	return note, machines.CheckHealth(r.Health)
}
