package oci

import (
	"encoding/json"
	"maps"
	"slices"
	"time"
)

// A Healthcheck is a command that tests whether an image's program works. Durations and
// retries of zero mean the defaults of container tools.
type Healthcheck struct {
	// Test is NONE, or CMD and the words of a command, or CMD-SHELL and a line for the
	// shell.
	Test          []string      `json:"test"`
	Interval      time.Duration `json:"interval_ns,omitempty"` // From the end of a check to the next.
	Timeout       time.Duration `json:"timeout_ns,omitempty"`
	StartPeriod   time.Duration `json:"start_period_ns,omitempty"`   // Failures in this time do not count.
	StartInterval time.Duration `json:"start_interval_ns,omitempty"` // Replaces Interval during StartPeriod.
	Retries       int           `json:"retries,omitempty"`           // Consecutive failures until it is unhealthy.
}

// A healthcheck is a Healthcheck in a configuration, by Docker's names.
type healthcheck struct {
	Test          words         `json:",omitempty"`
	Interval      time.Duration `json:",omitempty"` // Nanoseconds, as the others.
	Timeout       time.Duration `json:",omitempty"`
	StartPeriod   time.Duration `json:",omitempty"`
	StartInterval time.Duration `json:",omitempty"`
	Retries       int           `json:",omitempty"`
}

// public returns nil for an empty check.
func (h *healthcheck) public() *Healthcheck {
	if h == nil || len(h.Test) == 0 {
		return nil
	}
	return &Healthcheck{h.Test, h.Interval, h.Timeout, h.StartPeriod, h.StartInterval, h.Retries}
}

func (h *Healthcheck) document() *healthcheck {
	if h == nil {
		return nil
	}
	return &healthcheck{h.Test, h.Interval, h.Timeout, h.StartPeriod, h.StartInterval, h.Retries}
}

// keys are a set. A configuration writes them as an object with empty values; a list is
// accepted too.
type keys []string

func (k *keys) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '[' {
		return json.Unmarshal(b, (*[]string)(k))
	}
	var set map[string]json.RawMessage
	err := json.Unmarshal(b, &set)
	*k = slices.Sorted(maps.Keys(set))
	return err
}

func (k keys) MarshalJSON() ([]byte, error) {
	set := map[string]struct{}{}
	for _, key := range k {
		set[key] = struct{}{}
	}
	return json.Marshal(set)
}
